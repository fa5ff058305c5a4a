"""Words written from the run's own settings: the methods paragraph, and what the page says about its data."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pet_pipeline.reporting.words import counted, listed

Entry = Mapping[str, Any]

CONTEXT = (
    "For context only: EARL’s ±10 % is a tolerance of phantom calibration, and −25 % / +33 % is the change of one "
    "patient’s SUV that exceeds test–retest noise. Neither licenses a systematic bias, so neither is a limit here."
)


def origin(summary: Entry) -> tuple[str, str, str]:
    """Whether data are simulated: key (`simulated`, `real`, `mixed`, `unknown`), a headline and a sentence."""
    said = [case.get("simulated") for case in summary.get("cases", ())]
    if said and all(s is True for s in said):
        return (
            "simulated",
            "Simulated data",
            "Every case comes from a simulator. Figures on simulated patients say nothing final about real ones.",
        )
    if said and all(s is False for s in said):
        return "real", "Real patients", "Every case is marked as a measurement of a real patient."
    if any(s is True for s in said):
        number = sum(s is True for s in said)
        others = "the others are real or carry no mark"
        return "mixed", "Simulated and other data", f"{number} of {len(said)} cases come from a simulator; {others}."
    return (
        "unknown",
        "Origin of the data not stated",
        "Nothing beside the files says whether these are simulated or real patients.",
    )


def methods_text(summary: Entry, methods: Sequence[str]) -> list[str]:
    """Paragraphs that can be pasted into a paper, made of the run's settings and definitions alone."""
    settings = summary.get("settings", {})
    meanings = _Meanings(summary.get("definitions", {}))
    is_mumap = settings.get("quantity") == "mumap"
    return [
        p
        for p in (
            _data(summary, methods, is_mumap=is_mumap),
            _predictions(summary, methods),
            _figures(meanings, settings, is_mumap=is_mumap),
            _statistics(summary, meanings),
        )
        if p
    ]


def _data(summary: Entry, methods: Sequence[str], *, is_mumap: bool) -> str:
    settings = summary.get("settings", {})
    what = "attenuation maps (µ at 511 keV)" if is_mumap else "attenuation-corrected PET volumes in SUV (body weight)"
    names = listed([f"“{m}”" for m in methods])
    reference = typeset(str(settings.get("reference") or "the references"))
    cases, patients = int(summary.get("n_cases") or 0), int(summary.get("n_patients") or 0)
    text = (
        f"Predicted {what} of {counted(len(methods), 'method')} ({names}) were compared with {reference} in "
        f"{counted(cases, 'case')} of {counted(patients, 'patient')}"
    )
    records = summary.get("cases", ())
    doses = sorted({c["dose"] for c in records if isinstance(c.get("dose"), int | float)})
    if doses:
        text += f", at {listed([f'{d:g} %' for d in doses])} of the standard counts"
    for key, noun in (("site", "site"), ("scanner", "scanner")):
        known = sorted({str(c[key]) for c in records if c.get(key)})
        if known:
            text += (
                f", {counted(len(known), noun)} ({', '.join(known)})" if len(known) < 7 else f", {len(known)} {noun}s"
            )
    text += ". "
    text += {
        "simulated": "All data were simulated. ",
        "real": "All data were measured. ",
        "mixed": "Simulated and other data were pooled. ",
        "unknown": "",
    }[origin(summary)[0]]
    if settings.get("resample"):
        text += "Predictions on another grid were resampled linearly onto the grid of the reference. "
    else:
        text += "Prediction and reference shared one voxel grid; nothing was resampled. "
    missing = len({(e["case_id"], e["method"]) for e in summary.get("not_scored", ())})
    if missing:
        text += f"{counted(missing, 'prediction')} could not be scored and {'is' if missing == 1 else 'are'} left out."
    return text.strip()


def _predictions(summary: Entry, methods: Sequence[str]) -> str:
    sentences = []
    for method in methods:
        known = summary["methods"][method].get("provenance") or {}
        model, version = known.get("model"), known.get("model_version")
        if not model:
            continue
        text = f"“{method}” was made by the model {model}" + (f", version {version}" if version else "")
        options = known.get("options")
        if isinstance(options, Mapping) and options:
            text += " (" + ", ".join(f"{k.replace('_', ' ')} {_value(v)}" for k, v in options.items()) + ")"
        if known.get("seed") is not None:
            text += f", seed {known['seed']}"
        if known.get("precision"):
            text += f", {known['precision']}"
        sentences.append(text + ".")
    return " ".join(sentences)


def _value(value: Any) -> str:
    return "/".join(str(v) for v in value) if isinstance(value, list | tuple) else plain(value)


def plain(value: Any) -> str:
    """A value of a sidecar or of the settings in words: lists with commas, yes and no, names without underscores."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{str(k).replace('_', ' ')} {plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(v) for v in value)
    return "none" if value is None else str(value)


class _Meanings:
    """The definitions of the summary by the name of one figure: their keys name several, and may hold `*`."""

    def __init__(self, definitions: Entry) -> None:
        self._entries = [(part.strip(), str(text)) for key, text in definitions.items() for part in key.split(",")]

    def of(self, name: str) -> str:
        """What the figure means, typeset, without a full stop; empty where nothing is said."""
        exact = next((text for key, text in self._entries if key == name), None)
        if exact is None:
            exact = next((text for key, text in self._entries if "*" in key and fnmatchcase(name, key)), "")
        return typeset(exact).rstrip(".")


def _said(text: str, meaning: str) -> str:
    """`text (meaning)`, or the text alone."""
    return f"{text} ({meaning})" if meaning else text


def _figures(meanings: _Meanings, settings: Entry, *, is_mumap: bool) -> str:
    inside = _said("inside the body", meanings.of("body"))
    if is_mumap:
        hu = _said("in Hounsfield units", meanings.of("hu_mae"))
        if settings.get("kvp"):
            hu += f", tube voltage {settings['kvp']:g} kV"
        return (
            f"Attenuation was compared {inside} by mean absolute error and bias of µ in cm⁻¹ at 511 keV, and {hu}. "
            f"{_said('Tissue classes', meanings.of('tissue'))} were compared by Dice’s coefficient."
        )
    found = [
        f"Voxelwise agreement was measured {inside} as {_said('NRMSE and NMSE', meanings.of('nmse'))}, MAE, and "
        f"{_said('PSNR and SSIM', meanings.of('psnr'))}.",
        f"In organs, SUVmean was compared as {_said('relative bias', meanings.of('suv_mean_bias'))}.",
        f"In lesions, {_said('SUVpeak', meanings.of('suv_peak'))} was compared in the same way, SUVmax by "
        f"{_said('its recovery', meanings.of('suv_max_recovery'))}.",
    ]
    if meanings.of("nstd"):
        found.append(f"Noise in the liver is the NSTD ({meanings.of('nstd')}).")
    visible, lost, invented = (meanings.of(n) for n in ("conspicuous", "lost", "invented_at_site"))
    if visible and lost:
        first = visible.split(":")[0]
        found.append(
            f"{first[:1].upper()}{first[1:]} count as visible; one is missed where {lost}"
            + (f", and invented where {invented}." if invented else ".")
        )
    if meanings.of("false_foci"):
        found.append(f"False foci are {meanings.of('false_foci').split(': how many')[0]}.")
    return " ".join(found)


def _statistics(summary: Entry, meanings: _Meanings) -> str:
    found = []
    if meanings.of("patients"):
        found.append(f"The patient is {meanings.of('patients')}.")
    if meanings.of("intervals"):
        found.append(
            f"Medians and quartiles are over patients; intervals are the {meanings.of('intervals').split(';')[0]}."
        )
    if summary.get("lights") and meanings.of("lights"):
        found.append(f"Traffic lights of the mean bias are {meanings.of('lights')}.")
    if summary.get("agreement") and meanings.of("agreement"):
        found.append(f"Agreement: {meanings.of('agreement')}.")
    if summary.get("comparisons") and meanings.of("comparisons"):
        found.append(f"Methods were compared in pairs: {meanings.of('comparisons')}.")
        if meanings.of("p_holm"):
            found.append(f"P-values were corrected by Holm’s procedure ({meanings.of('p_holm')}).")
    software = summary.get("software", {})
    if software.get("pet_pipeline"):
        others = ", ".join(f"{n} {v}" for n, v in software.items() if n != "pet_pipeline")
        found.append(f"Software: pet-pipeline {software['pet_pipeline']}" + (f" ({others})." if others else "."))
    return " ".join(found)


def typeset(text: str) -> str:
    """`+-5 %` as `±5 %`, `^2` raised, hyphens between numbers as dashes: the summary keeps to ASCII."""
    text = text.replace("bias +- ", "bias ± ").replace("+-", "±").replace("^2", "²").replace("cm^-1", "cm⁻¹")
    text = re.sub(r"(?<=\d)-(?=\d)", "–", text)
    text = re.sub(r"(?<![\w–])-(?=\d)", "−", text)
    text = re.sub(r"(?<=[\w)\]]) - (?=[\w(\[])", " − ", text)
    return text.replace("Bland-Altman", "Bland–Altman").replace("'s ", "’s ").replace("s' ", "s’ ")
