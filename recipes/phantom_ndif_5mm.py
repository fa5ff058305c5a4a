"""Make the built-in model `phantom-ndif-5mm` again: simulate its cohort, train, write the model folder.

    python recipes/phantom_ndif_5mm.py --output build/ndif [--install] [--figures FIGURES_JSON]

Attenuation-corrected low dose in, attenuation-corrected standard dose out; the denoisers are told the liver NSTD of
their input. Every step goes on where it stopped. `--install` puts the result into the package; `--figures` adds what a
benchmark measured to the card. Hours on two cores.
"""

from common import Recipe, make

from pet_pipeline.inference.defaults import NDIF_MODEL

RECIPE = Recipe(
    name=NDIF_MODEL,
    task="ndif",
    cohort="cohort-ndif",
    config="ndif-demo",
    intended_use="Research and demonstration, not diagnosis. 18F-FDG PET of adults, head to thighs, 5 to 50 % dose, "
    "corrected for attenuation; trained on simulated patients only.",
    command="python recipes/phantom_ndif_5mm.py",
)

if __name__ == "__main__":
    make(RECIPE, str(__doc__), "build/ndif")
