"""When a tracer was injected, and to when a PET series is decay-corrected, from headers that say it in many ways."""

import datetime
import math
import re
from collections.abc import Sequence
from typing import Any

from pet_pipeline.data.dicom_files import number, text
from pet_pipeline.errors import InputRefused

Moment = datetime.datetime

DAY = datetime.timedelta(days=1)

HALF_LIVES = 10
"""A scan begins within so many half-lives of the injection, or within a day; a longer time is a wrong date."""

_STAMP = re.compile(r"(\d{14})(\.\d+)?\s*([+-]\d{4})?")
_CLOCK = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2})?(\.\d+)?")
_GE_SCAN_TIME = (0x0009, "GEMS_PETD_01", 0x0D)
_ANY_DATE = "20000101"  # where de-identification has removed all dates, times of day still tell
_PHILIPS = (0x7053, "Philips PET Private Group")


def injection(
    radiopharmaceutical: Any, scan: Moment, header: Any, half_life_s: float, name: str
) -> tuple[Moment, tuple[str, ...]]:
    """When the tracer was injected, and what to warn of.

    RadiopharmaceuticalStartDateTime is used where it lies in the day, or the ten half-lives, before the scan. Else,
    also where de-identification moved the dates apart, the time of day of RadiopharmaceuticalStartTime or of it: the
    last before the scan. Isotopes that are imaged days later need the date.

    Args:
        radiopharmaceutical: the item with dose and times.
        scan: its start.
        header: of an image, for its time zone.
        half_life_s: of the isotope.
        name: how messages call the series.

    Raises:
        InputRefused: neither attribute is there, or the isotope needs the date and there is none that fits.
    """
    stamp = _stamp(text(radiopharmaceutical, "RadiopharmaceuticalStartDateTime"), header)
    longest = max(DAY, datetime.timedelta(seconds=HALF_LIVES * half_life_s))
    if stamp is not None and scan - longest <= stamp <= scan:
        return stamp, ()
    if longest > DAY:
        raise InputRefused(
            f"{name}: RadiopharmaceuticalStartDateTime missing or not in the {longest / DAY:.3g} days before the scan; "
            f"needed for a half-life of {half_life_s / 3600.0:.3g} h, as a time of day does not tell the day: --minutes"
        )
    clock = _clock(text(radiopharmaceutical, "RadiopharmaceuticalStartTime"))
    time = clock if stamp is None or clock is not None else stamp - _midnight(stamp)
    if time is None:
        raise InputRefused(
            f"{name}: RadiopharmaceuticalStartDateTime and RadiopharmaceuticalStartTime missing; needed is one of "
            "them, or --minutes"
        )
    moment = _midnight(scan) + time
    if moment > scan:  # injected the evening before
        moment -= DAY
    if stamp is None:
        return moment, ()
    return moment, ("the date of injection does not fit that of the scan: only its time of day is used",)


def scan_starts(headers: Sequence[Any], half_life_s: float, name: str) -> tuple[list[Moment], tuple[str, ...]]:
    """For each slice the moment that DecayCorrection START refers to, and what to warn of.

    The series' time if no acquisition is earlier; else GE's private scan time; else, of each slice, the time at which
    its frame has its mean activity minus FrameReferenceTime; else the earliest acquisition.

    Args:
        headers: of all slices (and frames) of the series.
        half_life_s: of the isotope.
        name: how messages call the series.

    Raises:
        InputRefused: neither a time of the series nor of the acquisition.
    """
    acquired = acquisitions(headers)
    known = [moment for moment in acquired if moment is not None]
    series = _moment(headers[0], "Series")
    if series is not None and (not known or series <= min(known)):
        return [series] * len(headers), ()
    private = _stamp(private_text(headers[0], *_GE_SCAN_TIME), headers[0])
    if private is not None:
        return [private] * len(headers), ()
    if not known or len(known) < len(headers):
        raise InputRefused(f"{name}: AcquisitionTime missing; needed is it, or a SeriesTime at the start of the scan")
    found = []
    for header, moment in zip(headers, known, strict=True):
        reference_ms, duration_ms = number(header, "FrameReferenceTime"), number(header, "ActualFrameDuration")
        if reference_ms is None or not duration_ms:
            return [min(known)] * len(headers), (
                "SeriesTime lies after the acquisition and FrameReferenceTime or ActualFrameDuration is missing: "
                "the earliest acquisition is taken for the start of the scan, wrong if beds before it are missing",
            )
        middle_s = mean_activity_s(duration_ms / 1000.0, half_life_s)
        found.append(moment + datetime.timedelta(seconds=middle_s - reference_ms / 1000.0))
    return found, ()


def acquisitions(headers: Sequence[Any]) -> list[Moment | None]:
    """When each slice's acquisition began; None where its header does not say."""
    return [_moment(header, "Acquisition") for header in headers]


def mean_activity_s(duration_s: float, half_life_s: float) -> float:
    """Seconds from a frame's start to when the activity is its mean over the frame: ln(l D / (1 - exp(-l D))) / l."""
    decay = math.log(2.0) / half_life_s
    return math.log(decay * duration_s / -math.expm1(-decay * duration_s)) / decay


def private_text(header: Any, group: int, creator: str, element: int) -> str:
    """A private attribute as text; empty where it is missing.

    Where a gateway has removed the line that names the creator, the vendor's usual block is looked at.
    """
    try:
        item = header.private_block(group, creator)[element]
    except KeyError:
        unnamed = (group, 0x0010) not in header
        item = header.get((group, 0x1000 + element)) if unnamed else None
    return "" if item is None else _plain(item.value)


def philips_factor(header: Any, element: int) -> float | None:
    """A factor of Philips's private group (7053,10xx); None where it is missing or 0."""
    try:
        value = float(private_text(header, *_PHILIPS, element))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0.0 else None


def _plain(value: Any) -> str:
    """A value whose VR may have been lost on the way (UN)."""
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)).strip(" \0")


def _moment(header: Any, what: str) -> Moment | None:
    """`what`Date with `what`Time; the date of the series or study where it has none."""
    clock = _clock(text(header, f"{what}Time"))
    dates = (text(header, f"{tag}Date").replace(".", "") for tag in (what, "Series", "Study"))
    date = next((one for one in dates if re.fullmatch(r"\d{8}", one)), _ANY_DATE)
    if clock is None:
        return None
    try:
        return datetime.datetime.strptime(date, "%Y%m%d") + clock
    except ValueError:
        return None


def _stamp(value: str, header: Any) -> Moment | None:
    """A DT value in the scanner's local time; None where it is missing or cut short."""
    found = _STAMP.match(value)
    if found is None:
        return None
    try:
        moment = datetime.datetime.strptime(found[1], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    moment += datetime.timedelta(seconds=float(found[2] or 0.0))
    local = _offset(text(header, "TimezoneOffsetFromUTC"))
    stated = _offset(found[3] or "")
    return moment if local is None or stated is None else moment + local - stated


def _offset(value: str) -> datetime.timedelta | None:
    found = re.fullmatch(r"([+-])(\d{2})(\d{2})", value)
    if found is None:
        return None
    size = datetime.timedelta(hours=int(found[2]), minutes=int(found[3]))
    return -size if found[1] == "-" else size


def _clock(value: str) -> datetime.timedelta | None:
    """A TM value since midnight; None where it is missing."""
    found = _CLOCK.match(value)
    if found is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups()[:3])
    return datetime.timedelta(hours=hours, minutes=minutes, seconds=seconds + float(found[4] or 0.0))


def _midnight(moment: Moment) -> Moment:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
