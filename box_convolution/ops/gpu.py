"""The Triton kernels: whether they can serve, how work is shared out among programs, and their launches.

Nothing here reads a number from the device, so that launches can be recorded in a CUDA graph. Triton itself is imported
with the first call.
"""

import functools
import importlib
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .checks import output_shape

_OLDEST_TRITON = (3, 6)  # that the kernels were tested with
_OLDEST_GPU = (7, 0)  # compute capability that Triton compiles for
_OPTIONS = {"enable_fp_fusion": True}
# Two programs of 8 warps to a processor. AMD's compiler has no such setting, and needs no more registers than that.
_MANY_REGISTERS = _OPTIONS if torch.version.hip else _OPTIONS | {"maxnreg": 128}
_LONGEST = 2**30  # rows or columns of a plane, whose numbers the kernels hold in 32 bits


class Limits(NamedTuple):
    """What the work is cut to fit: ``processors`` run at a time, ``near_memory`` bytes are shared by all of them.

    ``tile`` numbers are in a program's registers at a time; with running sums along them, rows have ``columns``, else
    ``columns_out``; ``band`` rows of a table are built by a program, where a plane has several.
    """

    processors: int
    near_memory: int
    tile: int = 512
    columns: int = 32  # threads of a warp: so that each row is within one
    columns_out: int = 128
    band: int = 32


class Tile(NamedTuple):
    """Rows and columns that a program holds in registers at a time; powers of two."""

    rows: int
    columns: int
    warps: int

    @staticmethod
    def of(h: int, w: int, size: int, columns: int) -> "Tile":
        columns = min(_power_of_two(w), columns)
        rows = min(_power_of_two(h), max(1, size // columns))
        return Tile(rows, columns, min(8, max(1, rows * columns // 64)))


class Sharing(NamedTuple):
    """``programs`` go through ``planes`` at a time, each cut into ``bands`` of ``band`` rows: one launch for each such
    group of planes. ``parts``: over how many programs the boxes of a plane are spread (forward, and one band only)."""

    programs: int
    planes: int
    bands: int
    band: int
    parts: int


@functools.cache
def status(device: torch.device | None = None) -> str | None:
    """None where the kernels can serve (tensors on ``device``); else, in one line, why not and what to do about it."""
    try:
        triton = importlib.import_module("triton")
    except ImportError as error:
        remedy = "On Linux: pip install triton; on Windows: pip install triton-windows"
        return f"Triton cannot be imported ({error}). {remedy}"
    if tuple(map(int, triton.__version__.split(".")[:2])) < _OLDEST_TRITON:
        return f"Triton {triton.__version__} is older than 3.6, the oldest it works with: 3.6 comes with PyTorch 2.10"
    if device is not None and device.type == "cuda" and torch.version.hip is None:
        capability = torch.cuda.get_device_capability(device)
        if capability < _OLDEST_GPU:
            name, version = torch.cuda.get_device_name(device), ".".join(map(str, capability))
            return f"{name} has compute capability {version}, and Triton needs 7.0 or later: use a newer GPU"
    return None


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU: it was asked for before they were first used."""
    triton = importlib.import_module("triton")
    return not isinstance(_kernels()[0].box_planes, triton.runtime.JITFunction)


@functools.cache
def _kernels() -> tuple[ModuleType, ModuleType, ModuleType]:
    """Forward kernels, backward kernels, and what they share."""
    names = ("triton_kernels", "triton_backward", "triton_tables")
    forward, backward, tables = (importlib.import_module(f".{name}", __package__) for name in names)
    return forward, backward, tables


@functools.cache
def limits(device: torch.device) -> Limits:
    """Of ``device``; of an imaginary small one where the kernels are interpreted."""
    if device.type != "cuda":
        return Limits(processors=4, near_memory=2**25)
    properties = torch.cuda.get_device_properties(device)
    # Some report the cache of one of several dies. Half of it and more is left to the input and the output.
    near = max(properties.L2_cache_size * 3 // 4, 2**25)
    return Limits(properties.multi_processor_count, near)


def share_forward(planes: int, per_channel: int, h: int, table_bytes: int, rows: int, limits: Limits) -> Sharing:
    """Whole planes in one launch, where their tables stay near and enough programs find work; else bands of rows."""
    wanted = 2 * limits.processors
    near = max(1, limits.near_memory // table_bytes)
    parts = max(1, min(per_channel, min(wanted, near) // planes))
    programs = min(planes * parts, wanted, near)
    band = max(rows, limits.band)
    if 4 * programs >= 3 * limits.processors or h <= band:
        return Sharing(max(programs, 1), planes, 1, h, parts)
    return Sharing(0, min(planes, near), -(-h // band), band, 1)


def share_backward(planes: int, h: int, rows: int, limits: Limits) -> Sharing:
    """Whole planes in one launch, where there are enough for most processors; else bands of rows."""
    wanted = 2 * limits.processors
    if 4 * planes >= 3 * limits.processors or h <= 2 * rows:
        return Sharing(min(planes, wanted), planes, 1, h, 1)
    bands = min(-(-wanted // planes), -(-h // (2 * rows)))
    band = -(-h // bands) + -(-h // bands) % -rows * -1
    bands = -(-h // band)
    return Sharing(planes * bands, planes, bands, band, 1)


def box_conv2d(input: Tensor, boxes: Tensor, normalize: bool, stride: int, out: Tensor | None = None) -> Tensor:
    """See :func:`box_convolution.box_conv2d`. The result is contiguous."""
    return _forward(input, boxes, None, None, None, False, normalize, stride, out)


def box_conv2d_fused(
    input: Tensor,
    boxes: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    relu: bool,
    normalize: bool,
    stride: int,
) -> Tensor:
    """relu(residual + scale * box_conv2d + shift), all but the box convolution optional, in the same kernel.

    ``scale``, ``shift`` (C*M) float32; ``residual`` like the output.
    """
    return _forward(input, boxes, scale, shift, residual, relu, normalize, stride, None)


def _forward(
    input: Tensor,
    boxes: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    relu: bool,
    normalize: bool,
    stride: int,
    out: Tensor | None,
) -> Tensor:
    output = _empty(input, output_shape(input, boxes, stride)) if out is None else out
    if not output.numel():
        return output
    forward, _, tables = _kernels()
    batch, channels, h, w = _check_size(input)
    per_channel, (h_out, w_out) = boxes.shape[1], output.shape[2:]
    image, edges = _by_rows(input), boxes.contiguous()
    scale, shift, residual = (None if t is None else t.contiguous() for t in (scale, shift, residual))
    stride = min(stride, max(h, w))  # a larger one looks at the first pixel, too
    planes = batch * channels
    bounds = limits(input.device)
    tile, tile_out = Tile.of(h, w, bounds.tile, bounds.columns), Tile.of(h_out, w_out, bounds.tile, bounds.columns_out)
    sixteenths = -(-(w + 2) // 16)  # of a table's row, which starts with two numbers of padding
    table = (h + 1) * sixteenths * 16
    shared = share_forward(planes, per_channel, h, 8 * table, tile.rows, bounds)
    strides = image.stride()[:3]
    writing = {"NORMALIZE": normalize, "DENSE": stride == 1, "RELU": relu}
    with _current(input.device):
        if shared.bands == 1:
            scratch = _scratch(input, shared.programs * table)
            forward.box_planes[(shared.programs,)](
                image, edges, output, scale, shift, residual, scratch,
                planes, channels, per_channel, h, w, h_out, w_out, stride, sixteenths, *strides, shared.parts,
                R=tile.rows, CW=tile.columns, G=tile_out.rows, CW_OUT=tile_out.columns, num_warps=tile_out.warps,
                **writing, **_OPTIONS,
            )  # fmt: skip
            return output
        sums = _band_sums(tables, image, tile, shared)
        scratch = _scratch(input, shared.planes * table)
        above = _scratch(input, shared.planes * shared.bands * sixteenths * 16)
        strip = 4 * tile_out.rows
        strips = -(-h_out // strip)
        for first in range(0, planes, shared.planes):
            count = min(shared.planes, planes - first)
            forward.build_bands[(count * shared.bands,)](
                image, sums, scratch, above, first, channels, h, w, sixteenths, *strides, shared.bands, shared.band,
                R=tile.rows, CW=tile.columns, num_warps=tile.warps, **_OPTIONS,
            )  # fmt: skip
            forward.box_bands[(count * per_channel * strips,)](
                edges, output, scale, shift, residual, scratch,
                first, channels, per_channel, h, w, h_out, w_out, stride, sixteenths, strips, strip,
                **writing, G=tile_out.rows, CW=tile_out.columns, num_warps=tile_out.warps, **_OPTIONS,
            )  # fmt: skip
    return output


def box_conv2d_backward(
    grad_output: Tensor, input: Tensor, boxes: Tensor, normalize: bool, stride: int, output_mask: list[bool]
) -> tuple[Tensor, Tensor]:
    """Gradients by input and boxes, contiguous; one that ``output_mask`` rules out is empty."""
    grad_input = _empty(input, input.shape if output_mask[0] else (0,))
    grad_boxes = _empty(boxes, boxes.shape if output_mask[1] else (0,))
    if grad_output.numel() == 0:
        return grad_input.zero_(), grad_boxes.zero_()
    if not any(output_mask):
        return grad_input, grad_boxes
    _, backward, tables = _kernels()
    batch, channels, h, w = _check_size(input)
    per_channel, (h_out, w_out) = boxes.shape[1], grad_output.shape[2:]
    image, grad, edges = _by_rows(input), _by_rows(grad_output), boxes.contiguous()
    stride = min(stride, max(h, w))
    planes = batch * channels
    bounds = limits(input.device)
    tile = Tile.of(h, w, bounds.tile, bounds.columns)
    shared = share_backward(planes, h, tile.rows, bounds)
    banded = shared.bands > 1
    by_input, by_boxes = output_mask
    groups = min(tile.rows, tile.warps)
    # Places for sums: of each tile, and of what is above the plane; of each of their blocks, and of what is left of it.
    slots = (1 + groups * -(-h // tile.rows)) * (1 + -(-w // tile.columns))
    with _current(input.device):
        sums = _scratch(input, planes * per_channel * 5 * slots if by_boxes else 1)
        band_sums = _band_sums(tables, image, tile, shared) if banded and by_boxes else sums
        scratch = _scratch(input, shared.programs * (12 * per_channel + 4 * w))
        parts = _scratch(input, planes * h * w) if banded and by_input else grad_input
        carries = _scratch(input, planes * shared.bands * w if banded and by_input else 1)
        backward.walk_bands[(shared.programs,)](
            grad, image, edges, band_sums, scratch, parts, carries, sums,
            planes, channels, per_channel, h, w, h_out, w_out, stride, shared.bands, shared.band, slots,
            *grad.stride()[:3], *image.stride()[:3],
            NORMALIZE=normalize, DENSE=stride == 1, BY_INPUT=by_input, BY_BOXES=by_boxes, BANDED=banded,
            GROUPS=groups, R=tile.rows, CW=tile.columns, MB=min(_power_of_two(per_channel), 128), num_warps=tile.warps,
            **_MANY_REGISTERS,
        )  # fmt: skip
        if banded and by_input:
            backward.add_bands[(planes * shared.bands,)](
                parts, carries, grad_input, h, w, shared.bands, shared.band,
                R=tile.rows, CW=tile.columns, num_warps=tile.warps, **_OPTIONS,
            )  # fmt: skip
        if by_boxes:
            backward.edge_gradients[(channels * per_channel,)](
                sums, edges, grad_boxes, batch, channels * per_channel, h, w, slots,
                NORMALIZE=normalize, BLOCK=min(_power_of_two(slots), 256), num_warps=2, **_OPTIONS,
            )  # fmt: skip
    return grad_input, grad_boxes


def _band_sums(tables: ModuleType, image: Tensor, tile: Tile, shared: Sharing) -> Tensor:
    """Column sums of all bands of all planes: (planes, bands, w)."""
    batch, channels, h, w = image.shape
    planes = batch * channels
    sums = _scratch(image, planes * shared.bands * w)
    tables.sum_bands[(planes * shared.bands,)](
        image, sums, channels, h, w, shared.bands, shared.band, *image.stride()[:3],
        R=tile.rows, CW=tile.columns, num_warps=tile.warps, **_OPTIONS,
    )  # fmt: skip
    return sums


def _empty(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device)


def _scratch(like: Tensor, count: int) -> Tensor:
    return torch.empty(count, dtype=torch.float64, device=like.device)


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be that of the tensors."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _by_rows(tensor: Tensor) -> Tensor:
    """The kernels read along rows, whose pixels must be neighbours; rows, channels and images may be anywhere."""
    return tensor if tensor.stride(3) == 1 else tensor.contiguous()


def _check_size(input: Tensor) -> tuple[int, int, int, int]:
    batch, channels, h, w = input.shape
    if max(h, w) > _LONGEST:
        raise ValueError(f"input must have at most 2**30 rows and columns for implementation 'triton', got {h} x {w}")
    return batch, channels, h, w


def _power_of_two(number: int) -> int:
    """The smallest that is not below ``number``."""
    return 1 << (number - 1).bit_length()
