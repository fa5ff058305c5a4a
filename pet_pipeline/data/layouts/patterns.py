"""A user's own layout: a glob for each role, with `{participant}`, `{scan}` and `{dose}` where they stand in names."""

import re
from collections.abc import Sequence
from pathlib import Path

from pet_pipeline.data.layouts.images import FULL_DOSE, ROLES, Classify, Image, Role
from pet_pipeline.errors import UsageError

_FIELDS = {
    "{participant}": r"(?P<participant>[^/]+?)", "{scan}": r"(?P<scan>[^/]+?)", "{dose}": r"(?P<dose>\d+(?:[.p]\d+)?)",
    "**/": r"(?:.*/)?", "*": r"[^/]*", "?": r"[^/]",
}  # fmt: skip
_TOKENS = re.compile("|".join(re.escape(token) for token in _FIELDS))
_LOW: tuple[Role, ...] = ("input", "input_ac")


def layout(patterns: Sequence[str], dose: float | None = None) -> Classify:
    """What files are by patterns `ROLE=GLOB`, the first that fits; paths are relative to the data set's folder.

    Args:
        patterns: such as `input=low/{participant}_nac.nii.gz` and `target=full/{participant}_ac.nii.gz`.
        dose: percent, of every `input` and `input_ac` whose name does not say it.

    Raises:
        UsageError: an unknown role, a glob without `{participant}`, or with a field twice.
    """
    known = [_compiled(pattern) for pattern in patterns]

    def classify(path: Path, root: Path) -> Image | str:
        below = path.relative_to(root).as_posix()
        for role, expression in known:
            if match := expression.fullmatch(below):
                found = match.groupdict()
                scan = (found["participant"], *([found["scan"]] if found.get("scan") else []))
                percent = float(found["dose"].replace("p", ".")) if found.get("dose") else dose
                full = FULL_DOSE if role == "target" else None
                return Image(path, role, scan[0], scan, percent if role in _LOW else full)
        return "no --pattern fits"

    return classify


def _compiled(pattern: str) -> tuple[Role, re.Pattern[str]]:
    name, _, glob = pattern.partition("=")
    role = next((role for role in ROLES if role == name.strip()), None)
    if role is None or glob.count("{participant}") != 1 or any(glob.count(field) > 1 for field in ("{scan}", "{dose}")):
        raise UsageError(
            f"--pattern {pattern!r}: needed is ROLE=GLOB with {{participant}} once, e.g. "
            f"input=low/{{participant}}_nac.nii.gz; roles are {', '.join(ROLES)}"
        )
    parts, end = [], 0
    for token in _TOKENS.finditer(glob):
        parts += [re.escape(glob[end : token.start()]), _FIELDS[token[0]]]
        end = token.end()
    return role, re.compile("".join([*parts, re.escape(glob[end:])]))
