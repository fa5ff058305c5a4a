"""The model card: what `model.yaml` says, for people."""

from collections.abc import Mapping
from typing import Any

import jinja2

from pet_pipeline.configs.model import ModelDescription
from pet_pipeline.configs.mumap import MumapDescription
from pet_pipeline.data.descriptors import TERMS

_TEMPLATE = jinja2.Template(
    """\
# {{ d.name }} {{ d.version }}

{{ d.intended_use }}

| | |
|---|---|
| task | {{ task }} |
| grid | {{ d.grid.spacing_mm | join(" x ") }} mm |
| learnt image | {{ target }} |
{% if d.mumap -%}
| cascade | {{ d.mumap.stages }} stages; {{ bank }} |
{% elif d.task != "prior" -%}
| recommended sampling | {{ d.sampler.solver }}, {{ d.sampler.steps }} step\
{{ "" if d.sampler.steps == 1 else "s" }} from \
{{ "the prior noised to t = %g" % d.sampler.t_start if d.sampler.start == "prior" else "noise" }}, \
views {{ d.sampler.views | join(", ") }}{{ ", averaged with the mirrored body" if d.sampler.mirror }} |
{% endif -%}
| licence | {{ d.licence }} |
| trained | {{ d.created }} |
| made again by | `{{ d.recipe }}` |

## Networks

| role | architecture | parameters | SHA-256 of the weights |
|---|---|---|---|
{% for role, network in networks.items() -%}
| {{ role }} | {{ network.architecture }} | {{ "{:,}".format(network.parameters) }} | `{{ network.sha256[:16] }}` |
{% endfor %}
## Training data

{{ table(d.training) }}
{% if d.seen -%}
### What the inputs were like

`check` and `translate` warn of an input outside of this.

| | 1st percentile | median | 99th percentile |
|---|---|---|---|
{% for name, seen in d.seen.items() -%}
| {{ words(name) }} | {{ "%g" % seen.p01 }} | {{ "%g" % seen.median }} | {{ "%g" % seen.p99 }} |
{% endfor %}
{% endif -%}
{% if d.unusual -%}
### Unusual inputs

`check` and `translate` warn, too, where a small network ({{ "{:,}".format(d.unusual.network.parameters) }} weights\
{% if d.unusual.uptake %}; of organs' uptake another, {{ "{:,}".format(d.unusual.uptake.parameters) }}{% endif %}) \
scores an input above a limit; scores are log-odds against a usual input.

| kind | limit |
|---|---|
{% for kind, limit in d.unusual.limits.items() -%}
| {{ kind.replace("_", " ") }} | {{ "%.1f" % limit }} |
{% endfor %}
{{ table(d.unusual.fitted_on) }}
{% endif -%}
{% if d.calibration -%}
## Uncertainty

`translate --uncertainty` with {{ d.calibration.paths }} path{{ "s" if d.calibration.paths > 1 }} of the recommended \
sampling is calibrated: the map is the error to expect, not the spread alone; with other settings it is the bare spread.
{% if d.calibration.figures %}
So are the intervals that `--regions` writes of SUVmean, SUVmax and SUVpeak of \
{{ d.calibration.figures | join("s and ") }}s.
{% endif %}
{{ table(d.calibration.fitted_on) }}
{% endif -%}
{% if d.mumap and d.mumap.calibration -%}
## Uncertainty

`mumap --uncertainty` writes the error to expect, cm^-1, with the model's own stages and members.

{{ table(d.mumap.calibration.fitted_on) }}
{% endif -%}
## Figures

{% if d.figures %}{{ table(d.figures) }}{% else %}None measured yet.
{% endif %}
## Limits
{% if d.demonstration %}
- Trained on simulated patients alone. On a real scan it is a demonstration: nothing is known about its errors there.
{%- endif %}
{% if d.mumap -%}
- The couch is not in its mu-maps. What no training patient had (metal, contrast agent, a missing organ) can be \
missed, or painted over with what is usual.
{% else -%}
- It can lose small or faint lesions and can invent uptake; the figures say how often it did on simulated patients.
{% endif -%}
- Inputs unlike the training data (another tracer, another count level, another part of the body) are outside of what \
was measured.
""",
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)

_TASKS = {
    "madm": "to attenuation-corrected standard-dose PET",
    "ndif": "to attenuation-corrected standard-dose PET; the denoisers are told the noise level of the input",
    "prior": "to attenuation-corrected standard-dose PET in one step, without diffusion",
    "mumap": "to the mu-map at 511 keV",
}
_CONDITIONS = {
    "input": "low-dose non-attenuation-corrected PET",
    "input_ac": "low-dose attenuation-corrected PET",
}
_TARGETS = {
    "noise_free": "the noise-free attenuation-corrected image",
    "target": "the attenuation-corrected standard dose",
}


def model_card(description: ModelDescription) -> str:
    """The card of a model as Markdown; what the description does not say is not said."""
    text: str = _TEMPLATE.render(
        d=description,
        networks=description.networks,
        task=f"{_CONDITIONS[description.condition]} {_TASKS[description.task]}",
        target=_TARGETS[description.target] if description.mumap is None else "the mu-map without the couch, cm^-1",
        bank=_bank(description.mumap),
        table=_table,
        words=_words,
    )
    return text


def _bank(mumap: MumapDescription | None) -> str:
    if mumap is None or mumap.bank is None:
        return "no population prior"
    return f"between them a population prior of {mumap.k} out of {mumap.bank.members} patients"


def _words(descriptor: str) -> str:
    term = TERMS.get(descriptor)
    return descriptor if term is None else ", ".join(part for part in (term.words, term.unit) if part)


def _table(facts: Mapping[str, Any]) -> str:
    rows = "".join(f"| {name.replace('_', ' ')} | {_cell(value)} |\n" for name, value in facts.items())
    return f"| | |\n|---|---|\n{rows}"


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {_cell(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_cell(part) for part in value)
    return str(value)
