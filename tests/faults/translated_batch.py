"""One small batch for all faults: scans, the command that translates them, what an undisturbed run makes of them."""

from dataclasses import dataclass
from pathlib import Path

from commands import Ended, Limit, nothing, run

from pet_pipeline.inference import sidecar


@dataclass(frozen=True)
class Batch:
    """A folder of scans and the images that they become.

    Attributes:
        scans: in order.
        model: an untrained model.
        images: file name -> bytes, of a run that nothing disturbed.
        seconds: that it took.
    """

    scans: tuple[Path, ...]
    model: Path
    images: dict[str, bytes]
    seconds: float

    def arguments(self, out: Path) -> tuple[object, ...]:
        """The command that translates all scans into `out`."""
        return ("translate", *self.scans, "--output", out, "--model", self.model, "--device", "cpu", "--steps", 1)

    def run(self, out: Path, limit: Limit = nothing) -> Ended:
        """Run it to its end."""
        return run(*self.arguments(out), said=self.scans[0].with_name("said"), limit=limit)

    def assert_nothing_half_written(self, out: Path) -> list[str]:
        """Every image under its final name is the one that an undisturbed run makes; returns those with a sidecar."""
        images = {path.name: path.read_bytes() for path in out.glob("*.nii.gz") if not path.name.startswith(".")}
        assert images.items() <= self.images.items()
        finished = [path.name for path in out.glob("*_acsd.json")]
        assert all(sidecar.read(out / name) is not None for name in finished)
        assert {name.replace(".json", ".nii.gz") for name in finished} <= images.keys()
        return finished

    def assert_rerun_completes(self, out: Path) -> None:
        """The same command makes what is missing, makes nothing twice, and leaves nothing but the results."""
        before = {name: (out / name).stat().st_mtime_ns for name in self.assert_nothing_half_written(out)}
        again = self.run(out)
        assert again.status == 0, again.said
        assert len(self.assert_nothing_half_written(out)) == len(self.scans)
        assert {path.name for path in out.glob("*.nii.gz")} == set(self.images)
        assert all((out / name).stat().st_mtime_ns == stamp for name, stamp in before.items())
        left = [path.name for path in out.glob(".*")]
        assert not left, left
