"""`python -m pet_pipeline`: the same as the command `pet-pipeline`."""

from pet_pipeline.cli.app import main

if __name__ == "__main__":
    main()
