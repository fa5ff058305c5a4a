"""YAML from outside: plain values, one kind of error for whatever is wrong, nothing that unfolds without bound."""

from typing import Any

import yaml

MOST_VALUES = 100_000
"""Of one document, aliases counted each time that they stand for something: a preset has some dozens."""

_DAMAGE = (yaml.YAMLError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What PyYAML raises: its own errors, those of the constructors of dates, numbers and truth values, and of depth."""


def parse(text: str) -> Any:
    """The one document in a text, of plain values alone: a tag that names a Python object is an error.

    Raises:
        ValueError: it is no such YAML, nested too deeply, or unfolds to more than `MOST_VALUES` values.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _unfolded(node, {}) > MOST_VALUES:
                raise ValueError(f"more than {MOST_VALUES} values, or one inside itself")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except _DAMAGE as error:
        first = (str(error).splitlines() or [""])[0]
        raise ValueError(f"not valid YAML: {first or type(error).__name__}") from error


def _unfolded(node: yaml.Node, known: dict[int, int]) -> int:
    """Values below a node, itself included, each alias in full; beyond all bounds where a node holds itself."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1  # until it is known: whoever meets it now is inside of it
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            parts = node.value
        known[id(node)] = 1 + sum(_unfolded(part, known) for part in parts)
    return known[id(node)]
