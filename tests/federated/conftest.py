"""The command line for the tests of the federated verbs."""

from command_in_process import pet_pipeline

__all__ = ["pet_pipeline"]
