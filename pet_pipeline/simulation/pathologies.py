"""Pathologies: a lung removed, a pleural effusion, scoliosis, a hip of metal."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pet_pipeline.configs.phantom import PathologyKind, PathologySettings
from pet_pipeline.simulation.body_shapes import BodySize
from pet_pipeline.simulation.frame import Frame
from pet_pipeline.simulation.solids import Ellipsoid, Part, Segment, Solid, paint, parts
from pet_pipeline.simulation.tissues import ACQUIRED, MATERIALS, Tissue
from pet_pipeline.simulation.uptake import Uptake
from pet_pipeline.types import BoolArray, IntArray

METALS_CM1: Mapping[str, float] = {"titanium": 0.360, "cobalt_chrome": 0.685}
"""Alloys of implants at 511 keV, mu = density x sum of weight share x mu/rho.

mu/rho of the elements (cm^2/g, photoelectric + coherent + incoherent; Elam, Ravel, Sieber, Radiat Phys Chem 63, 2002,
within 0.3 % of NIST XCOM): Ti .0811, Al .0837, V .0799, Co .0823, Cr .0820, Mo .0872. Ti-6Al-4V has 4.43 g/cm^3,
Co-28Cr-6Mo 8.3 g/cm^3. By the same tables water has 0.0960 cm^-1.
"""

_BACK_REF_MM = -85.0
"""Where the chest is deepest in a patient on the back, reference y."""

_BRONCHUS_REF_MM = 20.0
"""What of the airways lies farther to the side than this goes with its lung."""

_LUNG = (Tissue.LUNGS, Tissue.LUNG_VESSELS)


@dataclass(frozen=True)
class Pathology:
    """What was drawn of one patient's pathology; every number is drawn, whatever the kind.

    Attributes:
        kind: which.
        side: +1 the patient's right, -1 the left.
        fluid_suv: SUV of pleural fluid.
        effusion_mm: depth of an effusion.
        scoliosis_mm: sideways amplitude of the spine.
        metal: name of the alloy.
    """

    kind: PathologyKind
    side: int
    fluid_suv: float
    effusion_mm: float
    scoliosis_mm: float
    metal: str

    def of_size(self, size: BodySize) -> BodySize:
        """The body's size and pose with this pathology."""
        return replace(size, scoliosis_mm=self.side * self.scoliosis_mm) if self.kind == "scoliosis" else size

    def of_uptake(self, uptake: Uptake) -> Uptake:
        """Uptake and attenuation, those of fluid and metal among them; metal takes up nothing."""
        fluid, metal = ACQUIRED
        return replace(
            uptake,
            suv={**uptake.suv, fluid: self.fluid_suv, metal: 0.0},
            mu_cm1={**uptake.mu_cm1, fluid: MATERIALS[fluid].mu_cm1, metal: METALS_CM1[self.metal]},
        )

    def add_to(self, labels: IntArray, frame: Frame) -> None:
        """Write it into a body's labels (x, y, z) on the frame's grid, in place, after every organ."""
        if self.kind == "hip_implant":
            for part in _hip_parts(self.side):
                paint(labels, frame, part)
        elif self.kind in ("lung_removed", "effusion"):
            self._add_fluid(labels, frame)

    def facts(self) -> dict[str, float | str]:
        """What the patient's record says."""
        amounts: dict[str, dict[str, float | str]] = {
            "effusion": {"effusion_mm": round(self.effusion_mm, 1)},
            "scoliosis": {"scoliosis_mm": round(self.scoliosis_mm, 1)},
            "hip_implant": {"metal": self.metal},
        }
        side = "right" if self.side > 0 else "left"
        return {"pathology": self.kind, "pathology_side": side, **amounts.get(self.kind, {})}

    def _add_fluid(self, labels: IntArray, frame: Frame) -> None:
        """Fluid in one pleural space: all of it where the lung was removed, else up to a level surface."""
        lung = np.isin(labels, _LUNG)
        spans = [np.flatnonzero(lung.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        if not spans[0].size:
            return
        x, y, z = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
        inside = labels[x, y, z]
        aside = self.side * frame.reference((x, y, z))[0]
        filled: BoolArray = lung[x, y, z] & (aside > 0.0)
        if self.kind == "lung_removed":
            filled |= (inside == Tissue.AIRWAY) & (aside > _BRONCHUS_REF_MM)
        else:
            level = frame.locate((self.side * 70.0, _BACK_REF_MM, 470.0))[1] + self.effusion_mm
            filled &= (frame.y_mm[y] < level)[None, :, None]
        inside[filled] = Tissue.FLUID


def draw_pathology(rng: np.random.Generator, settings: PathologySettings, turn: int) -> Pathology | None:
    """Draw a patient's pathology, if there is one; the kinds come in turn."""
    drawn = Pathology(
        kind=settings.kinds[turn % len(settings.kinds)],
        side=int(rng.choice((-1, 1))),
        fluid_suv=float(rng.uniform(*settings.fluid)),
        effusion_mm=float(rng.uniform(*settings.effusion_mm)),
        scoliosis_mm=float(rng.uniform(*settings.scoliosis_mm)),
        metal="cobalt_chrome" if rng.random() < settings.cobalt_chrome else "titanium",
    )
    return drawn if rng.random() < settings.share else None


def _hip_parts(side: int) -> list[Part]:
    """A total hip replacement: cup in the socket, its liner (as dense as cartilage), head of 32 mm, neck and stem."""
    centre = (side * 88.0, 0.0, 66.0)
    metal: list[Solid] = [
        Ellipsoid(centre, (16, 16, 16)),
        Segment(centre, (side * 112.0, -6.0, 56.0), 6.5, 7.5),
        Segment((side * 112.0, -6.0, 56.0), (side * 118.0, -6.0, 10.0), 8.5, 9.0),
        Segment((side * 118.0, -6.0, 10.0), (side * 105.0, -5.0, -95.0), 9.0, 5.0),
    ]
    return [
        Part(Ellipsoid(centre, (28, 28, 28)), Tissue.METAL, (Tissue.BONE, Tissue.MARROW), rough=False),
        Part(Ellipsoid(centre, (24, 24, 24)), Tissue.CARTILAGE, rough=False),
        *parts(metal, Tissue.METAL, rough=False),
    ]
