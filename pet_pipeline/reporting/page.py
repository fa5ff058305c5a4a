"""`report.html` from an evaluation's folder: `summary.json`, `metrics.tsv` and `pictures/`, nothing else.

One file without any other: styles, scripts, font and pictures are inside, and the page's own policy forbids every
request. Up to `CASES_ON_PAGE` cases are on the page itself; more get a page each in `cases/`.
"""

import base64
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pet_pipeline._version import __version__
from pet_pipeline.data.files import write_text
from pet_pipeline.errors import InputRefused
from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.report import METRICS_FILE, SUMMARY_FILE, read_metrics, read_summary
from pet_pipeline.reporting import cases as sheets
from pet_pipeline.reporting import groupcharts, images, lightboard, prose, sections, words
from pet_pipeline.reporting.cases import CaseView, Scores
from pet_pipeline.reporting.film import PROFILE_HEIGHT, PROFILE_WIDTH, Windows, film, thumbnail
from pet_pipeline.reporting.planes import CasePlanes, slugs, volumes_beside

if TYPE_CHECKING:
    from jinja2 import Environment

log = logging.getLogger(__name__)

REPORT_FILE = "report.html"

CASE_PAGES = "cases"

CASES_ON_PAGE = 24
"""More cases get pages of their own, and the group page their thumbnails."""

PICTURE_BUDGET = 3_500_000
"""Characters of pictures on one page: with charts and text it stays under 5 MB."""

LEVELS = (160, 96, 64, 32)
"""Grey levels of the pictures, the first that fits the budget: 160 over 7 SUV are steps of 0.04."""

MOST_NAMED = 3
"""Methods that the title names; more are counted."""

GENERATOR = "pet-pipeline report"
"""Marks our own pages, so that a stale one may be removed and nobody else's file is."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Result:
    """What the page is drawn from.

    Attributes:
        folder: where it lies.
        summary: content of `summary.json`.
        rows: content of `metrics.tsv`.
    """

    folder: Path
    summary: Mapping[str, Any]
    rows: Sequence[Row]

    @property
    def methods(self) -> list[str]:
        """In the order of the summary: this is the order of columns and colours."""
        return list(self.summary.get("methods", {}))


def load_result(folder: Path) -> Result:
    """Read the files of an evaluation.

    Raises:
        InputRefused: no folder with `summary.json` and `metrics.tsv`, another schema version, damaged files.
    """
    for name in (SUMMARY_FILE, METRICS_FILE):
        if not (folder / name).is_file():
            raise InputRefused(
                f"{folder}: no {name} in it; needed is a folder that `pet-pipeline evaluate --output` wrote"
            )
    return Result(folder, read_summary(folder / SUMMARY_FILE), read_metrics(folder / METRICS_FILE))


def write_report(folder: Path, *, viewer: bool = False, window_suv: float = 7.0) -> Path:
    """Draw `report.html` (and `cases/<slug>.html` beyond 24 cases) anew; returns the report's path.

    Args:
        folder: what `evaluate` wrote.
        viewer: whether to embed the interactive viewer of the volumes that `evaluate --viewer` kept.
        window_suv: upper end of the grey scale.

    Raises:
        InputRefused: not the folder of a result, or of another schema version.
    """
    result = load_result(folder)
    windows = Windows.of(str(result.summary.get("settings", {}).get("quantity") or "pet"), window_suv)
    records = list(result.summary.get("cases", ()))
    names = slugs([str(c["case_id"]) for c in records])
    split = len(records) > CASES_ON_PAGE
    views: list[CaseView] = []
    for levels in LEVELS:
        if split:
            break
        views = list(_views(result, records, names, windows, levels=levels, split=False))
        if sum(v.film.bytes for v in views if v.film) <= PICTURE_BUDGET:
            break
    else:
        split = True
    kept: set[str] = set()
    if split:
        views = []
        for number, view in enumerate(_views(result, records, names, windows, levels=LEVELS[0], split=True)):
            path = folder / CASE_PAGES / f"{view.slug}.html"
            around = [
                names[str(records[i]["case_id"])] if 0 <= i < len(records) else "" for i in (number - 1, number + 1)
            ]
            write_text(path, _case_page(result, view, windows, around))
            kept.add(path.name)
            views.append(replace(view, film=None))
    _remove_stale(folder / CASE_PAGES, kept)
    target = folder / REPORT_FILE
    write_text(target, _group_page(result, views, windows, split=split, viewer=viewer))
    return target


def missing_parts(folder: Path, *, viewer: bool = False) -> list[str]:
    """What the page will have to do without, a line each: pictures, volumes.

    Raises:
        InputRefused: as `write_report`.
    """
    records = load_result(folder).summary.get("cases", ())
    lines = []
    without = [str(c["case_id"]) for c in records if not _picture(folder, c)]
    if without:
        lines.append(f"no picture data of {words.some(without)}: the page shows these without pictures")
    if viewer:
        bare = [str(c["case_id"]) for c in records if not (p := _picture(folder, c)) or not volumes_beside(p).is_file()]
        if bare:
            lines.append(f"no volumes of {words.some(bare)}: the viewer leaves these out (evaluate with --viewer)")
    return lines


def _picture(folder: Path, record: Mapping[str, Any]) -> Path | None:
    """The picture data of a case, if they are there, inside the folder."""
    name = record.get("picture")
    path = folder / str(name)
    # A summary from elsewhere must not make the page show another file of this machine.
    return path if name and path.resolve().is_relative_to(folder.resolve()) and path.is_file() else None


def _views(
    result: Result,
    records: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
    windows: Windows,
    *,
    levels: int,
    split: bool,
) -> Iterator[CaseView]:
    """The cases one by one: with many, only one case's pictures are in memory at a time."""
    indices = {m: i for i, m in enumerate(result.methods)}
    by_case: dict[str, list[Row]] = {}
    for row in result.rows:
        by_case.setdefault(row.case_id, []).append(row)
    for record in records:
        case_id = str(record["case_id"])
        slug = names[case_id]
        scores = Scores(by_case.get(case_id, []))
        mine = [m for m in result.methods if m in record.get("methods", {})] or result.methods
        keys, sorts = sheets.keys(scores, result.methods)
        warnings = list(record.get("warnings", ()))
        for method in mine:
            for line in (record.get("methods", {}).get(method) or {}).get("warnings", ()):
                warnings.append(f"{method}: {line}" if len(result.methods) > 1 else line)
        view = CaseView(
            case_id,
            slug,
            f"{CASE_PAGES}/{slug}.html" if split else f"#case-{slug}",
            sheets.facts(record),
            keys,
            sorts,
            tuple(dict.fromkeys(warnings)),
            sheets.body_table(scores, mine),
            sheets.organ_tables(scores, mine),
            sheets.lesion_table(scores, mine),
        )
        planes, why = _planes(result.folder, record)
        if planes is None:
            yield replace(view, no_film=why)
            continue
        shown = [m for m in mine if m in planes.methods][:1]
        thumbnails = [(m, indices[m], thumbnail(planes, windows, m)) for m in shown]
        thumbnails.append(("reference", -1, thumbnail(planes, windows, None)))
        yield replace(
            view, film=film(planes, windows, indices, levels=levels), thumbnails=tuple(thumbnails)
        )  # fmt: skip


def _planes(folder: Path, record: Mapping[str, Any]) -> tuple[CasePlanes | None, str]:
    """The picture data of a case, or why there is none."""
    name = record.get("picture")
    if not name:
        return None, "No picture was kept for this case."
    path = _picture(folder, record)
    if path is None:
        return None, f"The picture data {name} is missing: evaluate again to have it drawn."
    try:
        return CasePlanes.load(path), ""
    except InputRefused as error:
        log.warning("%s", error)
        return None, f"The picture data {name} cannot be read: evaluate again to have it drawn."


def _group_page(
    result: Result, views: Sequence[CaseView], windows: Windows, *, split: bool, viewer: bool
) -> str:  # fmt: skip
    from markupsafe import Markup

    summary, methods = result.summary, result.methods
    hrefs = {v.case_id: v.href for v in views}
    patients = {str(c["case_id"]): str(c.get("patient") or c["case_id"]) for c in summary.get("cases", ())}
    points = groupcharts.Points(result.rows, patients, hrefs)
    by_id = {v.case_id: v for v in views}
    worst = [(w, by_id[w.case_id]) for w in sections.worst(summary, methods) if w.case_id in by_id]
    context: dict[str, Any] = {
        "lights": lightboard.lights(summary, methods),
        "slopes": sections.slopes(summary, methods),
        "lesion_totals": sections.lesion_totals(summary, methods),
        "lesion_bins": sections.lesion_bins(summary, methods),
        "worst": worst[: sections.MOST_WORST],
        "headline": sections.headline(summary, methods),
        "boxes": groupcharts.boxes(summary, methods, points),
        "organ_boxes": groupcharts.organ_boxes(methods, points),
        "agreement": groupcharts.agreement(summary, methods, hrefs),
        "doses": groupcharts.dose_response(summary, methods),
        "froc": groupcharts.free_response(summary, methods),
        "comparisons": sections.comparisons(summary),
        "strata": {by: t for by in ("dose", "site", "scanner") if (t := sections.strata(summary, by, methods)).rows},
        "challenges": sections.challenges(summary, methods),
        "views": views,
        "split": split,
        "prose": prose.methods_text(summary, methods),
        "definitions": {k: prose.typeset(str(v)) for k, v in summary.get("definitions", {}).items()},
        "light_context": prose.CONTEXT,
        "not_scored": summary.get("not_scored", ()),
        "warnings": summary.get("warnings", ()),
        "viewer": None,
    }
    scripts = ["report.js"]
    if viewer:
        from pet_pipeline.reporting import viewer as viewers

        order = [w.case_id for w, _ in worst] + [v.case_id for v in views]
        context["viewer"] = viewers.embedded(
            result.folder, summary.get("cases", ()), list(dict.fromkeys(order)), by_id, windows
        )
        context["niivue"] = Markup(viewers.niivue_gzip_base64())
        scripts.append("viewer.js")
    return _render("report.html.j2", result, windows, context, scripts)


def _case_page(result: Result, view: CaseView, windows: Windows, around: Sequence[str]) -> str:
    context = {"view": view, "before": around[0], "after": around[1], "report_file": REPORT_FILE}
    return _render("case.html.j2", result, windows, context, ["report.js"])


def _render(
    template: str, result: Result, windows: Windows, context: Mapping[str, Any], scripts: Sequence[str]
) -> str:  # fmt: skip
    from markupsafe import Markup

    early = _static("theme.js")
    late = [_static(name) for name in scripts]
    kind, headline, sentence = prose.origin(result.summary)
    common: dict[str, Any] = {
        "title": _title(result),
        "generator": GENERATOR,
        "version": __version__,
        "summary": result.summary,
        "methods": result.methods,
        "origin": {"kind": kind, "headline": headline, "sentence": sentence},
        "windows": windows,
        "gradients": {name: Markup(images.gradient(name)) for name in images.STOPS},
        "profile_size": (PROFILE_WIDTH, PROFILE_HEIGHT),
        "policy": _policy([early, *late]),
        "css": Markup(_static("report.css")),
        "font": _font(),
        "early_script": Markup(early),
        "late_scripts": [Markup(script) for script in late],
    }
    return _environment().get_template(template).render({**common, **context})


def _title(result: Result) -> str:
    several = len(result.methods) > MOST_NAMED
    names = words.counted(len(result.methods), "method") if several else words.listed(result.methods)
    reference = prose.typeset(str(result.summary.get("settings", {}).get("reference") or "the reference"))
    return f"{names} against {reference}"


def _policy(scripts: Sequence[str]) -> str:
    """The page's content security policy: no request at all, and no script but ours, whatever a file name contains."""
    digests = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {digests} blob:; style-src 'unsafe-inline'; img-src data: blob:; "
        "font-src data:; connect-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'"
    )


def _font() -> str:
    return images.data_uri((_HERE / "static" / "inter-subset.woff2").read_bytes(), "font/woff2")


def _static(name: str) -> str:
    return (_HERE / "static" / name).read_text(encoding="utf-8")


def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["safe_svg"] = Markup  # charts escape what they print themselves
    environment.filters["counted"] = words.counted
    environment.filters["num"] = words.number
    environment.filters["plain"] = prose.plain
    environment.filters["region"] = words.region_of
    environment.filters["stem"] = lambda path: Path(str(path)).name
    return environment


def _remove_stale(folder: Path, kept: set[str]) -> None:
    """Remove case pages of an earlier drawing; files that are not ours stay."""
    if not folder.is_dir():
        return
    for path in folder.glob("*.html"):
        if (
            path.name not in kept
            and f'content="{GENERATOR}' in path.read_text(encoding="utf-8", errors="replace")[:2000]
        ):
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
