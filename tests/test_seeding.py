"""Seeds depend on the run's seed and the names, and on nothing else."""

import subprocess
import sys

from pet_pipeline.seeding import derive_seed, generator


def test_the_same_names_give_the_same_stream_in_another_process() -> None:
    code = "from pet_pipeline.seeding import derive_seed; print(derive_seed(7, 'sub-0001', 3))"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(there) == derive_seed(7, "sub-0001", 3)


def test_names_are_told_apart_by_place_and_type() -> None:
    seeds = {
        derive_seed(0, "ab", "c"), derive_seed(0, "a", "bc"), derive_seed(0, "abc"), derive_seed(1, "abc"),
        derive_seed(0, 1), derive_seed(0, "1"), derive_seed(0, 1, 1),
    }  # fmt: skip
    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_neighbouring_streams_are_independent() -> None:
    first, second = generator(0, "case", 1).normal(size=4000), generator(0, "case", 2).normal(size=4000)
    assert abs(float((first * second).mean())) < 0.06
