"""Print how long a whole-body phantom takes to draw and to bring to a breathing phase (one core)."""

import time

import numpy as np

from pet_pipeline.configs.phantom import PhantomSettings
from pet_pipeline.seeding import generator
from pet_pipeline.simulation.body_shapes import Family
from pet_pipeline.simulation.phantoms import draw


def main(patients: int = 4) -> None:
    settings = PhantomSettings(slices=(200, 200), top_mm=(0.0, 0.0))
    families: tuple[Family, ...] = ("standard", "heldout")
    for family in families:
        drawn, breathed = [], []
        for number in range(patients):
            start = time.process_time()
            phantom = draw(generator(0, family, number), family=family, settings=settings)
            drawn.append(time.process_time() - start)
            start = time.process_time()
            phantom.phase(0.5)
            breathed.append(time.process_time() - start)
        shape = " x ".join(str(n) for n in phantom.activity.shape)
        print(f"{family}: draw {np.mean(drawn):.2f} s, phase {np.mean(breathed):.2f} s of processor time, {shape}")


if __name__ == "__main__":
    main()
