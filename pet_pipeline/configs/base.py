"""What every configuration has in common: frozen, and unknown keys are refused."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen settings; a key that the schema does not know is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
