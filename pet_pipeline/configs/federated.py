"""Settings of a federated training: what the coordinator decides for all, and what a site permits at its own place."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pet_pipeline.configs.base import Settings
from pet_pipeline.configs.schema import TrainingSettings, ViewName

Role = Literal["prior", "axial", "coronal", "sagittal"]

TaskName = Literal["prior", "madm", "ndif"]
"""As `train` names what a model is for."""

VIEWS: tuple[ViewName, ...] = ("axial", "coronal", "sagittal")

SITE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""Names of sites are folder names too."""


class ServerUpdate(Settings):
    """How the server makes new weights from those of the sites.

    fedavg: their mean (McMahan 2017). fedprox: the same, and sites are held near the global weights (Li 2020). fedavgm:
    the mean change drives a momentum (Hsu 2019). fedadam: the mean change drives Adam (Reddi 2021).
    """

    name: Literal["fedavg", "fedprox", "fedavgm", "fedadam"] = "fedavg"
    weighting: Literal["cases", "equal"] = Field("cases", description="a site counts by its training cases, or as one")
    proximal_mu: float = Field(0.0, ge=0, description="fedprox: weight of mu / 2 |w - w_global|^2 in a site's loss")
    learning_rate: PositiveFloat = Field(1.0, description="fedavgm, fedadam: of the server")
    momentum: float = Field(0.9, ge=0, lt=1, description="fedavgm; fedadam: beta_1")
    beta_2: float = Field(0.99, ge=0, lt=1, description="fedadam")
    tau: PositiveFloat = Field(1e-3, description="fedadam: degree of adaptability")

    @model_validator(mode="after")
    def _prox_has_mu(self) -> Self:
        if (self.name == "fedprox") != (self.proximal_mu > 0):
            raise ValueError(
                f"{self.name} with proximal_mu={self.proximal_mu:g}: fedprox needs one above 0, others none"
            )
        return self


class PrivacySettings(Settings):
    """Central differential privacy of whole sites: what a site adds to a round is bounded, then drowned in noise.

    The guarantee is against those who see the global weights, not against the server, and it is a site's, not a
    patient's: add or remove all that one site sends, the number of sites being known.
    """

    clip_norm: PositiveFloat = Field(description="a site's change of all weights has at most this Euclidean norm")
    noise_multiplier: PositiveFloat = Field(
        description="z: noise on the sum of changes has standard deviation z clip_norm"
    )
    delta: float = Field(1e-5, gt=0, lt=1)
    max_epsilon: PositiveFloat = Field(description="a plan that would spend more is refused before it begins")


class FederatedSettings(Settings):
    """A federated training. `training` says what a site does in all; `local_steps` how often the sites meet."""

    training: TrainingSettings = TrainingSettings(folds=1)
    roles: tuple[Role, ...] = Field(
        ("prior", *VIEWS), description="networks learnt together; the prior first, then the views, which build on it"
    )
    local_steps: PositiveInt = Field(100, description="steps at a site between two meetings")
    server: ServerUpdate = ServerUpdate()
    keep_local: tuple[str, ...] = Field(
        (), description="patterns (fnmatch) of parameters that never leave a site, e.g. axial/*norm*"
    )
    score_every: PositiveInt = Field(
        1, description="rounds between two scores of the global weights on the sites' validation cases"
    )
    quorum: PositiveInt = Field(2, description="usable answers that a round needs")
    wait_s: PositiveFloat = Field(600.0, description="how long the server waits for so many sites to appear")
    round_s: PositiveFloat = Field(86400.0, description="how long a round may take; who is later is left out of it")
    attempts: PositiveInt = Field(2, description="at a round without quorum, before the run stops (and can be resumed)")
    max_norm_ratio: PositiveFloat = Field(
        10.0, description="a change larger than so many times the lower median of all is refused"
    )
    max_case_ratio: float = Field(
        3.0, ge=1, description="a site counts by its cases as so many of the lower median site at most"
    )
    min_cases: PositiveInt = Field(1, description="training cases that a site needs to take part")
    personal_steps: int = Field(
        0, ge=0, description="steps of each site's own last networks afterwards, on its own data; 0: no personal models"
    )
    personal_rate: PositiveFloat = Field(0.1, description="their learning rate, as a share of the training's")
    privacy: PrivacySettings | None = None

    @model_validator(mode="after")
    def _roles_fit(self) -> Self:
        if not self.roles or len(set(self.roles)) != len(self.roles):
            raise ValueError(f"roles {list(self.roles)}: needed are one or more different ones")
        if self.training.folds != 1:
            raise ValueError(f"training.folds {self.training.folds}: federated needs 1, each site splits its patients")
        if self.training.prior.kind != "regression":
            raise ValueError("training.prior.kind gan: federated needs regression, sites exchange no discriminator")
        if "prior" not in self.roles:
            raise ValueError(f"roles {list(self.roles)}: the views start from a prior's estimate, so add prior")
        return self

    @model_validator(mode="after")
    def _kept_layers_find_a_model(self) -> Self:
        if self.keep_local and not self.personal_steps:
            raise ValueError("keep_local needs personal_steps: what stays at a site is only in its own model")
        return self

    @model_validator(mode="after")
    def _privacy_holds(self) -> Self:
        if self.privacy is None:
            return self
        if self.server.weighting != "equal":
            raise ValueError("privacy needs server.weighting=equal: with others the bound on one site's part is wrong")
        if self.training.denoiser.residual_on_prior and self.training.diffusion.residual_scale is None and self.views:
            raise ValueError("privacy needs training.diffusion.residual_scale: measuring it would tell of the data")
        if self.personal_steps:
            raise ValueError("privacy and personal_steps: the table of gains would tell of the data; set one of them")
        return self

    @property
    def views(self) -> tuple[Role, ...]:
        """The views that are learnt together."""
        return tuple(role for role in self.roles if role != "prior")

    @property
    def phases(self) -> tuple[tuple[Role, ...], ...]:
        """Roles that are learnt at the same time, in order: the prior, then all views."""
        prior: tuple[Role, ...] = tuple(role for role in self.roles if role == "prior")
        return tuple(phase for phase in (prior, self.views) if phase)

    def steps(self, phase: int) -> int:
        """Local steps of a phase in all."""
        is_prior = self.phases[phase] == ("prior",)
        optimiser = self.training.prior_optimiser if is_prior else self.training.denoiser_optimiser
        return optimiser.steps

    def rounds(self, phase: int) -> int:
        """Meetings of a phase; the last may follow fewer steps."""
        return -(-self.steps(phase) // self.local_steps)


class SiteSettings(Settings):
    """`site.yaml`: where a site's data lie, and what it permits whoever asks. Paths are relative to the file."""

    name: str = Field(pattern=SITE_NAME)
    manifest: Path = Field(description="manifest.tsv of the site's cases; its train and val rows are used")
    work: Path = Field(Path("work"), description="packed cases, rounds, audit.jsonl, the personal model")
    server: str = Field("", description="host:port of the coordinator's published address")
    ca: Path = Path("ca.crt")
    key: Path = Path("site.key")
    roles: tuple[Role, ...] = Field(("prior", *VIEWS), description="networks that may be trained here")
    max_steps: PositiveInt = Field(2000, description="local steps of one order at most")
    tasks: tuple[TaskName, ...] = Field(("prior", "madm", "ndif"), description="what may be trained here")
    max_parameters: PositiveInt = Field(200_000_000, description="of all networks of a run together")
    max_batch_values: PositiveInt = Field(
        100_000_000,
        description="batch x voxels x channels of the largest layer in a training step; 4 bytes each, and memory holds "
        "some dozens of such layers",
    )
    min_spacing_mm: PositiveFloat = Field(1.0, description="a model grid finer than this is refused")
    min_cases: PositiveInt = Field(10, description="with fewer training cases the site takes no part")
    min_sites: PositiveInt = Field(2, description="a run whose quorum is smaller is refused")
    require_privacy: bool = Field(
        False, description="refuse runs without differential privacy, or with less than the next two say; extra privacy"
    )
    max_epsilon: PositiveFloat = Field(10.0, description="require_privacy: epsilon of the whole plan at most")
    max_delta: float = Field(1e-4, gt=0, lt=1, description="require_privacy: delta of the plan at most")
    personal: bool = Field(True, description="permit personal models, whose gain is reported")
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    workers: PositiveInt = Field(1, description="processes that bring cases onto the model grid")
