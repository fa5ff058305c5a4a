"""What every configuration has in common: frozen, and unknown keys are refused."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen settings; a key that the schema does not know is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def is_absent(value: object) -> bool:
    """Leaves a setting that is not set out of what is written: what was made before there was it stays its own."""
    return value is None
