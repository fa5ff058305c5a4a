"""How a population prior is made; every value has a default that was measured (docs/notes)."""

from typing import Annotated

from pydantic import Field

from pet_pipeline.configs.base import Settings


class PriorOptions(Settings):
    """Settings of registration and fusion.

    Attributes:
        deformable: after the affine registration, let the member deform.
        affine_iterations: at most, on each of the two levels (20 mm, 10 mm).
        coarse_iterations: of the demons at 10 mm.
        fine_iterations: of the demons at 5 mm.
        smoothing_voxels: standard deviation by which the displacements are smoothed after each iteration, in voxels of
            the level.
        limit_s: seconds that a member may take; one that takes longer is left out.
        least_body_overlap: Dice of the bodies after the affine registration below which a member is left out.
        most_folded: share of the body where the deformation may fold (Jacobian determinant not positive).
        softness_cm1: a member whose local mismatch is this much worse than the best one's (in quadrature) has 1/e of
            its weight there.
        window_mm: full width at half maximum of the neighbourhood over which the local mismatch is averaged.
        half_confidence_cm1: uncertainty at which the confidence is one half; the error is then about 0.009 cm^-1, a
            tenth of soft tissue (on simulated patients it is 1.5 to 2 times the uncertainty).
        least_confidence: mean confidence in the body below which a patient is called unlike the bank.
    """

    deformable: bool = True
    affine_iterations: Annotated[int, Field(ge=1, le=1000)] = 60
    coarse_iterations: Annotated[int, Field(ge=1, le=1000)] = 40
    fine_iterations: Annotated[int, Field(ge=0, le=1000)] = 20
    smoothing_voxels: Annotated[float, Field(ge=0.5, le=5.0)] = 1.0
    limit_s: Annotated[float, Field(gt=0.0)] = 120.0
    least_body_overlap: Annotated[float, Field(ge=0.0, le=1.0)] = 0.7
    most_folded: Annotated[float, Field(ge=0.0, le=1.0)] = 0.03
    softness_cm1: Annotated[float, Field(gt=0.0)] = 0.002
    window_mm: Annotated[float, Field(gt=0.0)] = 25.0
    half_confidence_cm1: Annotated[float, Field(gt=0.0)] = 0.005
    least_confidence: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
