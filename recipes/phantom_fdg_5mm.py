"""Make the built-in model `phantom-fdg-5mm` again: simulate its cohort, train, write the model folder.

    python recipes/phantom_fdg_5mm.py --output build/model [--install] [--figures build/quality/figures.json]

Every step goes on where it stopped. `--install` puts the result into the package; `--figures` adds what
`benchmarks/quality.py` measured to the card. Hours on two cores.
"""

from common import Recipe, make

from pet_pipeline.inference.defaults import DEFAULT_MODEL

RECIPE = Recipe(
    name=DEFAULT_MODEL,
    task="madm",
    cohort="cohort-train",
    config="demo",
    intended_use="Research and demonstration, not diagnosis. 18F-FDG PET of adults, head to thighs, 5 to 100 % dose, "
    "without attenuation correction; trained on simulated patients only.",
    command="make model",
)

if __name__ == "__main__":
    make(RECIPE, str(__doc__), "build/model")
