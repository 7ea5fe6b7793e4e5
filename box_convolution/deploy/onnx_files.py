"""ONNX files of any network with box convolutions, compared with it; by default of standard operators only."""

import copy
import inspect
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..argument_checks import as_bool, as_size, check_module
from ..extras import MissingPackageError, require
from ..networks.padding import PaddedNetwork
from . import custom_operators as custom
from .agreement import sizes_to_compare
from .exported import KEY, ExportError, Multiples, Opened, compared, metadata_of, quiet, reason
from .inference_form import deploy
from .standard_layers import in_standard_operations, with_fast_layers
from .standard_operators import decompositions

_AXES = {0: "batch", 2: "height", 3: "width"}


class AnySize(Multiples):
    """The network as one graph for all sizes: does what `PaddedNetwork.forward` does, but without branches."""

    def forward(self, image: Tensor) -> Tensor:
        h, w = image.shape[2], image.shape[3]
        multiple = PaddedNetwork.MULTIPLE
        for dim, size in ((2, h), (3, w)):
            padded = (size + multiple - 1) // multiple * multiple
            image = image.index_select(dim, torch.arange(padded, device=image.device).clamp(max=size - 1))
        return super().forward(image)[:, :, :h, :w]


def to_onnx(
    network: nn.Module,
    path: str | Path,
    example: Tensor | Sequence[Tensor],
    *,
    dynamic: bool = True,
    fixed_size: tuple[int, int] | None = None,
    custom_operators: bool = False,
    metadata: dict[str, Any] | None = None,
) -> float:
    """Deploy ``network``, write it as an ONNX file of standard operators, and return the error of the file's outputs.

    >>> to_onnx(network, "net.onnx", torch.rand(1, 3, 360, 480))               # any batch, height and width
    >>> to_onnx(network, "net.onnx", image, fixed_size=(360, 480))             # for readers that want one size

    The network may be any that `torch.export` can trace: with `BoxConv2d`, `BoxBottleneck`, their deployed forms, or
    none of them. A copy of it is deployed (see :func:`.deploy`). onnxruntime then runs the file on random inputs, of
    the example's size and, if sizes are free, of others. The file is kept only if its outputs are the network's.

    Args:
        network: written in evaluation mode. Its weights are float32.
        path: ends in .onnx; an existing file is replaced.
        example: the network's input, a tensor or a sequence of tensors; images are (B, C, H, W), float32.
        dynamic: batch, height and width of images are free in the file. False: they are those of the example, and box
            convolutions are products with constant matrices.
        fixed_size: (h, w) to use instead of the example's; implies ``dynamic=False``.
        custom_operators: write box convolutions as this package's own operator. That is faster, but onnxruntime reads
            the file only together with `custom_operators.library()`, and other programs cannot read it.
        metadata: plain values to store in the file, as JSON; :func:`open_onnx` returns them.

    Returns:
        Largest difference of outputs, as a share of their range; see :func:`.exported.compared`.

    Raises:
        TypeError, ValueError: naming the argument.
        FileNotFoundError: the folder of ``path`` does not exist.
        ExportError: a ValueError: the network cannot be exported, or the file computes something else.
        MissingPackageError: an ImportError: onnx, onnxscript or onnxruntime is not installed, or the library of
            ``custom_operators`` was not built.
    """
    require("writing ONNX", "onnx", "onnxscript", "onnxruntime")
    check_module("network", network)
    path, inputs, dynamic = _onnx_path(path), _inputs(example), as_bool("dynamic", dynamic) and fixed_size is None
    if as_bool("custom_operators", custom_operators) and custom.library() is None:
        raise MissingPackageError(f"custom_operators (--custom-operators) needs {custom.remedy()}")
    if fixed_size is not None:
        size = as_size("fixed_size", fixed_size)
        inputs = tuple(_of_size(tensor, size) if tensor.ndim == 4 else tensor for tensor in inputs)
    _check_dtypes(network, inputs)
    if isinstance(network, PaddedNetwork) and not (len(inputs) == 1 and inputs[0].ndim == 4 and inputs[0].numel()):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise ValueError(f"example must be one image of shape (batch, channels, height, width), got shape {shapes}")
    original = copy.deepcopy(network).cpu().eval()
    deployed = deploy(original, channels_last=False)
    examples = [inputs]
    if dynamic and isinstance(original, PaddedNetwork):
        examples = [(_of_size(inputs[0], size),) for size in sizes_to_compare(*inputs[0].shape[2:])]
    elif dynamic:
        examples.append(tuple(map(_other_size, inputs)))
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export") as folder:
        written = Path(folder) / path.name
        program = _exported(deployed, path, inputs, dynamic, custom_operators)
        if metadata:
            program.model.metadata_props[KEY] = json.dumps(metadata)
        program.save(str(written))
        largest = compared(original, _runner(_session(written, path)), examples, path)
        os.replace(written, path)
    return largest


def open_onnx(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Open a file of `boxconv export`; return the network, which onnxruntime runs on the CPU, and the metadata.

    Raises ExportError if the file is damaged or of another kind, MissingPackageError without onnxruntime.
    """
    require("running an ONNX file", "onnxruntime")
    session = _session(path, path)
    run = _runner(session)
    _, channels, h, w = session.get_inputs()[0].shape  # names of axes where they are free
    fixed = (h, w) if isinstance(h, int) and isinstance(w, int) else None
    network = Opened(lambda image: run(image)[0].to(image.device), channels, fixed)
    return network, metadata_of(path, session.get_modelmeta().custom_metadata_map.get(KEY))


def _exported(network: nn.Module, path: Path, inputs: tuple[Tensor, ...], dynamic: bool, custom_operators: bool) -> Any:
    """Return ``network``, which this changes, as a `torch.onnx.ONNXProgram`; errors name ``path``."""
    from torch.export import Dim, export  # not above: importing it takes a second, and `deploy` does not need it

    outputs, even = None, isinstance(network, PaddedNetwork)  # which pads to multiples of 8
    if isinstance(network, PaddedNetwork):
        (image,) = inputs
        whole = not dynamic and all(size % network.MULTIPLE == 0 for size in image.shape[2:])
        outputs, network = ["logits"], (Multiples if whole else AnySize)(network)
        inputs = (image.new_zeros((2, image.shape[1], 61, 91)) if dynamic else image,)  # not multiples of 8
    if dynamic:
        inputs = tuple(map(_no_size_special, inputs))
        sizes: Any = tuple(dict.fromkeys(_AXES, Dim.DYNAMIC) if tensor.ndim == 4 else {} for tensor in inputs)
    else:
        sizes = None
    names = list(inspect.signature(network.forward).parameters)[: len(inputs)]
    try:
        with quiet(), torch.no_grad():
            network = with_fast_layers(network, even=even)
            if not custom_operators:
                network = in_standard_operations(network, None if dynamic else inputs)
            # What newer PyTorch does by itself. With strict=True, 2.6 can export only 8 networks of a class a process.
            program = export(network, inputs, dynamic_shapes=sizes, strict=False)
            onnx = torch.onnx.export(
                program.run_decompositions(custom.decompositions() if custom_operators else decompositions()),
                custom_translation_table=custom.translations() if custom_operators else None,
                dynamo=True,
                optimize=True,
                input_names=names,
                output_names=outputs,
                verbose=False,
            )
    except Exception as error:  # the network's own code runs here, and all of PyTorch's exporter
        way = "; dynamic=False or fixed_size=(h, w) may help, where only the sizes are in the way" if dynamic else ""
        raise ExportError(f"{path}: {type(network).__name__} cannot be exported: {reason(error)}{way}") from error
    assert onnx is not None
    if dynamic:
        _name_axes(onnx.model.graph)
    return onnx


def _name_axes(graph: Any) -> None:
    """Name free sizes "batch", "height" and "width" instead of the exporter's names, in inputs and outputs."""
    names: dict[str, str] = {}
    for value in graph.inputs:
        for axis, name in _AXES.items() if len(value.shape) == 4 else ():
            names.setdefault(str(value.shape[axis]), name)
    for value in (*graph.inputs, *graph.outputs):
        for axis, size in enumerate(value.shape or ()):
            if str(size) in names:
                value.shape[axis] = names[str(size)]


def _session(file: Path, path: Path) -> Any:
    """Open ``file`` in onnxruntime; errors name ``path``."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        if library := custom.library():
            options.register_custom_ops_library(str(library))
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own types, which share no base
        if not library and f"{custom.DOMAIN}:" in str(error):
            raise ExportError(f"{path}: its box convolutions need {custom.remedy()}") from error
        raise ExportError(f"{path}: not a usable ONNX file ({str(error).splitlines()[0][:200]})") from error


def _runner(session: Any) -> Callable[..., list[Tensor]]:
    """Return the file as a function of tensors, which returns its outputs."""
    names = [value.name for value in session.get_inputs()]

    def run(*inputs: Tensor) -> list[Tensor]:
        feed = {name: tensor.numpy(force=True) for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, feed)]

    return run


def _onnx_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"path must end in .onnx, got {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: there is no folder {path.parent}")
    return path


def _inputs(example: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    inputs = (example,) if isinstance(example, Tensor) else tuple(example) if isinstance(example, (tuple, list)) else ()
    if not inputs or not all(isinstance(tensor, Tensor) for tensor in inputs):
        raise TypeError(f"example must be a tensor or a sequence of tensors, got {type(example).__name__}")
    return tuple(tensor.detach().cpu() for tensor in inputs)


def _check_dtypes(network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    for name, tensor in (*((f"example[{i}]", one) for i, one in enumerate(inputs)), *network.named_parameters()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise TypeError(f"network and example must be float32, got {name} in {tensor.dtype}: call .float() first")


def _of_size(images: Tensor, size: tuple[int, int]) -> Tensor:
    return images.new_zeros((*images.shape[:2], *size))


def _other_size(tensor: Tensor) -> Tensor:
    """Zeros for one image more, twice as high: so a size that was a multiple of some number still is one."""
    if tensor.ndim != 4:
        return tensor
    b, c, h, w = tensor.shape
    return tensor.new_zeros((b + 1, c, 2 * h, w))


def _no_size_special(tensor: Tensor) -> Tensor:
    """Zeros for at least two images, of unequal height and width: the exporter takes equal sizes for the same one."""
    if tensor.ndim != 4:
        return tensor
    b, c, h, w = tensor.shape
    return tensor.new_zeros((max(b, 2), c, h, 2 * w if h == w else w))
