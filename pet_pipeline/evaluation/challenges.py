"""Scores in the manner of two public challenges, from the rows alone, with what could not be reproduced in words."""

from collections.abc import Mapping, Sequence

from pet_pipeline.evaluation.bicmac import bic_mac
from pet_pipeline.evaluation.case import Row
from pet_pipeline.evaluation.points import ChallengeScores, Score
from pet_pipeline.evaluation.udpet import score_texture, udpet

__all__ = ["BIC_MAC", "UDPET", "ChallengeScores", "Score", "bic_mac", "challenge_scores", "score_texture", "udpet"]

UDPET = "UDPET 2025"
BIC_MAC = "BIC-MAC"


def challenge_scores(
    rows: Sequence[Row], *, patients: Mapping[str, str] | None = None, doses: Mapping[str, float] | None = None
) -> dict[str, ChallengeScores]:
    """Challenge -> scores, for those of which the rows hold anything.

    Args:
        rows: scores of one or more methods: of PET (`case.score_case`) or of mu-maps (`mumaps.score_mumap`).
        patients: patient of each case; a case that is not named is a patient of its own.
        doses: dose of each case's input, % of the standard dose, where known.
    """
    found = {UDPET: udpet(rows, patients=patients, doses=doses), BIC_MAC: bic_mac(rows, patients=patients)}
    return {name: scores for name, scores in found.items() if scores.scores}
