"""The command line run in the test's own process."""

from command_in_process import Call, pet_pipeline

__all__ = ["Call", "pet_pipeline"]
