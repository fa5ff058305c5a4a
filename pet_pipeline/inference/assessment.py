"""All cases of one or several methods scored, in worker processes; one bad case stops no other. Then the files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pet_pipeline.data.cluster import Cluster, spread
from pet_pipeline.evaluation import report
from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.report import CaseRecord, NotScored
from pet_pipeline.inference import provenance
from pet_pipeline.inference.casework import Outcome, Verdict, Work, score_work
from pet_pipeline.inference.pairing import Matching, gather
from pet_pipeline.inference.scoring import Reading

_TOLD = 3
"""The same warning about more cases than this becomes one line."""


@dataclass(frozen=True)
class Assessment:
    """What became of all cases.

    Attributes:
        methods: their names, in the order given.
        outcomes: one a case.
        not_scored: cases without a partner or that were refused.
        warnings: lines for the reader, the same about several cases said once.
        provenance: by method.
    """

    methods: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    not_scored: tuple[NotScored, ...]
    warnings: tuple[str, ...]
    provenance: Mapping[str, Mapping[str, Any] | None]

    @property
    def verdicts(self) -> list[Verdict]:
        """Of every case and method."""
        return [verdict for outcome in self.outcomes for verdict in outcome.verdicts]

    @property
    def rows(self) -> list[Row]:
        """Scores, method by method, cases in order."""
        every = [row for outcome in self.outcomes for row in outcome.rows]
        place = {method: number for number, method in enumerate(self.methods)}
        return sorted(every, key=lambda row: place[row.method])

    @property
    def records(self) -> list[CaseRecord]:
        """Of every case that has scores."""
        return [outcome.record for outcome in self.outcomes if outcome.record is not None]


def assess(
    matchings: Mapping[str, Matching],
    reading: Reading,
    *,
    pictures: Path | None = None,
    volumes: bool = False,
    workers: int = 1,
    on_case: Callable[[Outcome], None] = lambda _: None,
) -> Assessment:
    """Score every case of every method.

    Args:
        matchings: of each method, all against the same references.
        reading: how volumes are read and scored.
        pictures: folder for the pictures' data; None draws none.
        volumes: whether volumes for the viewer are kept, too.
        workers: processes; 1 works in this one.
        on_case: told each outcome as it is finished.
    """
    works = planned(matchings, reading, pictures=pictures, volumes=volumes)
    return assembled(matchings, score(works, workers, on_case))


def score(
    works: Sequence[Work],
    workers: int = 1,
    on_case: Callable[[Outcome], None] = lambda _: None,
    cluster: Cluster | None = None,
) -> tuple[Outcome, ...]:
    """The outcome of each work, in their order, scored in so many processes or on a cluster."""
    found: dict[int, Outcome] = {}
    for index, outcome in _done(works, workers, cluster):
        found[index] = outcome
        on_case(outcome)
    return tuple(found[index] for index in range(len(works)))


def assembled(matchings: Mapping[str, Matching], outcomes: tuple[Outcome, ...]) -> Assessment:
    """What the outcomes of all cases, or of a shard's, say together."""
    sidecars, lines = _provenance(tuple(matchings), outcomes)
    lines = [(method, line) for method, matching in matchings.items() for line in matching.notes] + lines
    return Assessment(
        tuple(matchings),
        outcomes,
        tuple(_not_scored(matchings, outcomes)),
        (*_about(lines, len(matchings)), *_warnings(outcomes, len(matchings))),
        sidecars,
    )


def save(
    assessment: Assessment, folder: Path, settings: Mapping[str, Any], *, command: str | None = None
) -> dict[str, Any]:
    """Write `metrics.tsv`, then `summary.json`, whose content is returned."""
    rows = assessment.rows
    summary = report.summarise(
        rows,
        cases=assessment.records,
        not_scored=assessment.not_scored,
        provenance=assessment.provenance,
        settings=settings,
        command=command,
        warnings=assessment.warnings,
    )
    report.write_metrics(folder / report.METRICS_FILE, rows)
    report.write_summary(folder / report.SUMMARY_FILE, summary)
    return summary


def planned(
    matchings: Mapping[str, Matching], reading: Reading, *, pictures: Path | None = None, volumes: bool = False
) -> list[Work]:
    """One work a case; arguments as of `assess`."""
    cases = gather(matchings)
    if pictures is None:
        return [Work(pairs, reading) for pairs in cases]
    from pet_pipeline.reporting.planes import slugs

    names = slugs([next(iter(pairs.values())).case_id for pairs in cases])
    return [
        Work(pairs, reading, pictures / f"{names[next(iter(pairs.values())).case_id]}.npz", volumes) for pairs in cases
    ]


def _done(works: Sequence[Work], workers: int, cluster: Cluster | None) -> Iterator[tuple[int, Outcome]]:
    if cluster is None and min(workers, len(works)) <= 1:
        yield from ((index, score_work(work)) for index, work in enumerate(works))
        return
    for index, outcome in spread(score_work, works, workers=workers, cluster=cluster):
        yield index, outcome if outcome is not None else _died(works[index])


def _died(work: Work) -> Outcome:
    message = "the process that scored it died, most likely for want of memory: try --workers 1"
    return Outcome(
        tuple(Verdict(pair.case_id, method, pair.prediction, "failed", message) for method, pair in work.pairs.items())
    )


def _not_scored(matchings: Mapping[str, Matching], outcomes: Sequence[Outcome]) -> list[NotScored]:
    """Cases without a partner, and refusals; one entry (method None) where all methods fail alike."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for method, matching in matchings.items():
        for case_id, line in matching.alone:
            lacking.setdefault((case_id, line), []).append(method)
    found: list[NotScored] = []
    for (case_id, line), methods in lacking.items():
        named: Sequence[str | None] = methods if len(methods) < len(matchings) or len(methods) == 1 else [None]
        found += [NotScored(case_id, method, line) for method in named]
    for outcome in outcomes:
        bad = [v for v in outcome.verdicts if v.status != "done"]
        if len(bad) > 1 and len(bad) == len(outcome.verdicts) and len({v.message for v in bad}) == 1:
            found.append(NotScored(bad[0].case_id, None, bad[0].message))
        else:
            found += [NotScored(v.case_id, v.method, v.message) for v in bad]
    return found


def _provenance(
    methods: Sequence[str], outcomes: Sequence[Outcome]
) -> tuple[dict[str, Mapping[str, Any] | None], list[tuple[str, str]]]:
    gathered: dict[str, Mapping[str, Any] | None] = {}
    lines: list[tuple[str, str]] = []
    for method in methods:
        found = [outcome.sidecars[method] for outcome in outcomes if method in outcome.sidecars]
        gathered[method], told = provenance.gathered(found)
        lines += [(method, line) for line in told]
    return gathered, lines


def _warnings(outcomes: Sequence[Outcome], methods: int) -> list[str]:
    """Refusals and the cases' own warnings; the same words about many cases are one line."""
    cases: dict[str, list[str]] = {}
    for outcome in outcomes:
        lines: list[str] = []
        if outcome.record is not None:
            lines += outcome.record.warnings
            for method, made in outcome.record.methods.items():
                lines += [f"{method}: {line}" if methods > 1 else line for line in made.warnings]
            for line in lines:
                cases.setdefault(line, []).append(outcome.record.case_id)
    found = [_refusal(entry) for entry in _not_scored({}, outcomes)]
    for line, named in cases.items():
        if len(named) > _TOLD:
            found.append(f"{', '.join(named[:_TOLD])}, ... ({len(named)} cases): {line}")
        else:
            found += [f"{case_id}: {line}" for case_id in named]
    return found


def _refusal(entry: NotScored) -> str:
    return f"{entry.case_id}{f' ({entry.method})' if entry.method else ''} is not scored: {entry.message}"


def _about(lines: Sequence[tuple[str, str]], methods: int) -> list[str]:
    """Lines with their method's name before them, but what holds for every method once and without."""
    told: dict[str, list[str]] = {}
    for method, line in lines:
        told.setdefault(line, []).append(method)
    found: list[str] = []
    for line, named in told.items():
        found += [line] if len(named) == methods else [f"{method}: {line}" for method in named]
    return found
