"""Shards: every item in exactly one of them, parts of equal size, and back to the whole in its order."""

import pytest

from pet_pipeline.data.shards import WHOLE, Shard, joined
from pet_pipeline.errors import UsageError


@pytest.mark.parametrize(("items", "count"), [(10, 3), (2, 5), (0, 2), (7, 7), (5, 1)])
def test_the_parts_are_the_whole(items: int, count: int) -> None:
    parts = [Shard.parse(f"{index}/{count}").of(range(items)) for index in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == list(range(items))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert joined(parts) == list(range(items))
    assert WHOLE.of(range(items)) == list(range(items))


@pytest.mark.parametrize("text", ["0/4", "5/4", "a/b", "1/0", "-1/4", "1", "1/4/2", " 1/4", "1.5/4", ""])
def test_what_names_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"needed is i/n with i from 1 to n"):
        Shard.parse(text)
