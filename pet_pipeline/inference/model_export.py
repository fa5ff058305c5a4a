"""`models export`: a model folder in another tool's form, whole or not at all, with a record of how it was made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pet_pipeline.data.files import held, sha256_of, whole_folder, write_json, write_text
from pet_pipeline.inference.monai_bundle import write_bundle
from pet_pipeline.inference.sidecar import software
from pet_pipeline.models.card import model_card
from pet_pipeline.models.runtime_files import TOLERANCE, export_networks
from pet_pipeline.models.weights import CARD_FILE, ModelFolder

RECORD_FILE = "export.json"

Format = Literal["monai", "onnx", "torch"]


def export_model(
    folder: ModelFolder, output: Path, kind: Format, on_network: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Write a model in another form.

    Args:
        folder: an opened model.
        output: a new or empty folder.
        kind: a MONAI bundle, or one ONNX or torch.export file a network with `export.json` and the card beside them.
        on_network: told each network before its file is made.

    Returns:
        `model`, `format`, `output`, and `networks`: for a bundle the ids in its configuration; else for each role its
        file, inputs, largest difference from the original and SHA-256.

    Raises:
        UsageError: the folder is not empty, another run is writing it, or a package is not installed.
        ModelError: a model that the form cannot hold, or a file that does not reproduce it.
    """
    facts = {"model": folder.description.name, "version": folder.description.version, "format": kind}
    facts |= {"output": str(output)}
    with held(output), whole_folder(output) as temporary:
        if kind == "monai":
            return {**facts, "networks": list(write_bundle(folder, temporary))}
        files = export_networks(folder, temporary, kind, on_network)
        networks = {
            one.role: {
                "file": one.path.name,
                "inputs": {name: list(axes) for name, axes in one.inputs.items()},
                "difference": one.difference,
                "sha256": sha256_of(one.path),
            }
            for one in files
        }
        record = {"networks": networks, "tolerance": TOLERANCE, "software": software()}
        write_json(temporary / RECORD_FILE, {**record, "description": folder.description.model_dump(mode="json")})
        write_text(temporary / CARD_FILE, model_card(folder.description))
        return {**facts, "networks": networks}
