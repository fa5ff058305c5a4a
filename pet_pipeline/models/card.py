"""The model card: what `model.yaml` says, for people."""

from collections.abc import Mapping
from typing import Any

import jinja2

from pet_pipeline.configs.model import ModelDescription

_TEMPLATE = jinja2.Template(
    """\
# {{ d.name }} {{ d.version }}

{{ d.intended_use }}

| | |
|---|---|
| task | {{ task }} |
| grid | {{ d.grid.spacing_mm | join(" x ") }} mm |
| learnt image | {{ target }} |
| recommended sampling | {{ d.sampler.solver }}, {{ d.sampler.steps }} steps from \
{{ "the prior noised to t = %g" % d.sampler.t_start if d.sampler.start == "prior" else "noise" }}, \
views {{ d.sampler.views | join(", ") }} |
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
## Figures

{% if d.figures %}{{ table(d.figures) }}{% else %}None measured yet.
{% endif %}
## Limits
{% if d.demonstration %}
- Trained on simulated patients alone. On a real scan it is a demonstration: nothing is known about its errors there.
{%- endif %}
- It can lose small or faint lesions and can invent uptake; the figures say how often it did on simulated patients.
- Inputs unlike the training data (another tracer, another count level, another part of the body) are outside of what \
was measured.
""",
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)

_TASKS = {
    "madm": "low-dose non-attenuation-corrected PET to attenuation-corrected standard-dose PET",
    "prior": "the same in one step, without diffusion",
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
        task=_TASKS[description.task],
        target=_TARGETS[description.target],
        table=_table,
    )
    return text


def _table(facts: Mapping[str, Any]) -> str:
    rows = "".join(f"| {name.replace('_', ' ')} | {_cell(value)} |\n" for name, value in facts.items())
    return f"| | |\n|---|---|\n{rows}"


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {_cell(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_cell(part) for part in value)
    return str(value)
