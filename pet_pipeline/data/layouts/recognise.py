"""Which layout a folder has, and what each of its files is by it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from pet_pipeline.data import nifti
from pet_pipeline.data.layouts import bids, lesions, madm, udpet
from pet_pipeline.data.layouts.images import PET_ROLES, Classify, Image, LeftOut
from pet_pipeline.errors import InputRefused, PetPipelineError, UsageError

LAYOUTS: Mapping[str, tuple[Classify, str]] = {
    "bids": (bids.classify, "sub-01_rec-nacstat_pet.nii.gz"),
    "hedypet": (bids.classify, "sub-01_ses-quadra_rec-nacstat_pet.nii.gz"),
    "udpet": (udpet.classify, "X_DRF-50.nii.gz"),
    "fdg-pet-ct-lesions": (lesions.classify, "PATIENT/STUDY/SUV.nii.gz"),
    "madm": (madm.classify, "5NAC/X.nii.gz and 100AC/X.nii.gz"),
}
"""Name -> what tells a file's role, and what is looked for, in words."""


@dataclass(frozen=True)
class Sorted:
    """The files of a data set, sorted out.

    Attributes:
        root: its folder.
        layout: the name of its layout.
        images: files with a role.
        left: the others.
    """

    root: Path
    layout: str
    images: tuple[Image, ...]
    left: tuple[LeftOut, ...]


def sort_out(
    root: Path,
    layout: str = "auto",
    *,
    own: Classify | None = None,
    exclude: Sequence[str] = (),
) -> Sorted:
    """Find the images below a folder and tell what each is.

    Args:
        root: of the data set.
        layout: a name of `LAYOUTS`, `pattern`, or `auto` for the one by which most files are PET images.
        own: of layout `pattern`.
        exclude: globs of paths below the root that are left out.

    Raises:
        UsageError: no such folder or layout.
        InputRefused: no file is a PET image by the layout; the message says what was looked for and where.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; give the folder of the data set")
    root = root.resolve()
    files = sorted([*nifti.files_below(root), *root.rglob("*_sinogram.npz")])
    kept = [path for path in files if not any(fnmatch(path.relative_to(root).as_posix(), glob) for glob in exclude)]
    choices = dict(LAYOUTS) if own is None else {"pattern": (own, "files that fit a --pattern")}
    if layout != "auto":
        if layout not in choices:
            raise UsageError(f"layout {layout!r}: needed is auto, {', '.join(LAYOUTS)}, or pattern with --pattern")
        choices = {layout: choices[layout]}
    best = Sorted(root, layout, (), ())
    for name, (classify, _) in choices.items():
        found = _by(name, classify, root, kept)
        if _pets(found) > _pets(best):
            best = found
    if not _pets(best):
        sought = "; ".join(f"{name}: {words}" for name, (_, words) in choices.items())
        raise InputRefused(
            f"{root}: {len(files)} NIfTI files below it ({len(files) - len(kept)} excluded), none a PET with a role; "
            f"looked for {sought}; name yours with --pattern, bring DICOM to NIfTI with convert pet"
        )
    images, left = [], list(best.left)
    for image in best.images:
        reason = _unfit(image)
        if reason is None:
            images.append(image)
        else:
            left.append(LeftOut(image.path, reason))
    left += [LeftOut(path, "excluded") for path in files if path not in set(kept)]
    left += [LeftOut(path, "a link to nothing: is the data set downloaded (datalad get)?") for path in _dangling(root)]
    return Sorted(root, best.layout, tuple(images), tuple(sorted(left, key=lambda one: one.path)))


def _by(name: str, classify: Classify, root: Path, files: Sequence[Path]) -> Sorted:
    images, left = [], []
    for path in files:
        try:
            found = classify(path, root)
        except PetPipelineError as error:
            found = str(error)
        if isinstance(found, Image):
            images.append(found)
        else:
            left.append(LeftOut(path, found))
    return Sorted(root, name, tuple(images), tuple(left))


def _dangling(root: Path) -> list[Path]:
    return [path for path in root.rglob("*.nii*") if path.is_symlink() and not path.exists()]


def _pets(found: Sorted) -> int:
    return sum(image.role in PET_ROLES for image in found.images)


def _unfit(image: Image) -> str | None:
    """Why a file cannot be read as one volume; headers only."""
    if not nifti.is_nifti(image.path):
        return None
    try:
        count = nifti.frames(image.path)
    except PetPipelineError as error:
        return str(error).removeprefix(f"{image.path}: ")
    return None if count == 1 else f"{count} frames; needed is one volume: convert pet --frame"
