"""Results of evaluations, made without any evaluation."""

from pathlib import Path

import pytest
from result_maker import make_result


@pytest.fixture(scope="session")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cases, two methods, pictures and volumes; drawn by whoever needs it."""
    return make_result(tmp_path_factory.mktemp("result"), 3, viewer=True, warnings=["doses are pooled"])
