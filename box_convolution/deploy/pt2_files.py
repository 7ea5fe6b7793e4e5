"""Exported programs (torch.export): files with everything that inference in PyTorch needs."""

import copy
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..networks.padding import PaddedNetwork
from .exported import KEY, ExportError, Multiples, Opened, metadata_of, quiet, reason
from .standard_layers import in_standard_operations
from .standard_operators import decompositions


def save_program(
    network: PaddedNetwork, path: Path, metadata: dict[str, Any], *, standard_operators: bool = False
) -> None:
    """Write ``network``, which `deploy` returned, as an exported program, which `torch.export.load` reads.

    The program takes images (batch, in_channels, height, width) and returns logits of the same size. The batch may be
    up to 1024; height and width are multiples of 8, from 16 to 32,768. It calls the operators of this package, which
    must be imported before the file is loaded. With ``standard_operators`` it calls only PyTorch's operators: that is
    slower, but neither the file nor what is compiled from it ahead of time needs this package.
    """
    from torch.export import Dim, export, save

    multiple = PaddedNetwork.MULTIPLE
    steps = {axis: Dim(axis, min=2, max=4096) for axis in ("height", "width")}
    sizes = {0: Dim("batch", max=1024), 2: multiple * steps["height"], 3: multiple * steps["width"]}
    image = torch.zeros(2, network.in_channels, 8 * multiple, 12 * multiple)
    exported: nn.Module = Multiples(network)
    if standard_operators:
        exported = in_standard_operations(copy.deepcopy(exported), None)
    with quiet():
        program = export(exported, (image,), dynamic_shapes=(sizes,), strict=False)
        if standard_operators:
            program = program.run_decompositions(decompositions())
        more = {KEY: json.dumps({**metadata, "torch": torch.__version__})}
        with open(path, "wb") as file:  # given the path, PyTorch would write the file's name into the file
            save(program, file, extra_files=more)


def open_program(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Open a file of `save_program`; return the network and the metadata.

    Raises ExportError if the file is damaged, of another kind, or of a torch version that this one cannot read.
    """
    from torch.export import load

    extra = {KEY: ""}
    try:
        with quiet():
            program = load(str(path), extra_files=extra)
    except Exception as error:  # a damaged file raises anything from zipfile, json and torch
        why, made_with = reason(error), _torch_of(path)
        if made_with not in (None, torch.__version__):
            raise ExportError(
                f"{path}: was made with torch {made_with}, and torch {torch.__version__} cannot read it ({why}); "
                "use that version here, or export the network again with this one"
            ) from error
        raise ExportError(f"{path}: not a usable exported program ({why})") from error
    name = program.graph_signature.user_inputs[0]
    image = next(node for node in program.graph.nodes if node.name == name)
    about = metadata_of(path, extra[KEY])
    about.pop("torch", None)
    return Opened(program.module(), image.meta["val"].shape[1]), about


def _torch_of(path: Path) -> str | None:
    """Return the torch version that made a file of `save_program`, even if this PyTorch cannot read the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.rpartition("/")[2] == KEY)
            version = json.loads(archive.read(name)).get("torch")
            return None if version is None else str(version)
    except (OSError, ValueError, StopIteration, AttributeError, zipfile.BadZipFile):
        return None
