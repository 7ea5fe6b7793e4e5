"""The Triton kernels: whether they can serve, how work is shared out among programs, and their launches.

Nothing here reads a number from the device, so that launches can be recorded in a CUDA graph. Triton itself is imported
with the first call.
"""

import functools
import importlib
import math
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checks import output_shape
from ..epilogue import Epilogue

_OLDEST_TRITON = (3, 6)  # that the kernels were tested with
_OLDEST_GPU = (7, 0)  # compute capability that Triton compiles for
_OPTIONS = {"enable_fp_fusion": True}
_LONGEST = 2**29  # rows or columns of a plane, so that places next to it can be counted in 32 bits
_BUILD_WARPS = 4  # of the programs that do nothing but sum up
_FORWARD_LANES, _BACKWARD_LANES = 2, 1  # of a thread: as many as two programs of 8 warps have registers for
_LEAST_ROWS = 8  # that a lane walks down: each start costs as much as two rows


class Limits(NamedTuple):
    """What the work is cut to fit: ``processors`` run at a time, ``near_memory`` bytes are shared by all of them.

    A program walks down ``lanes`` columns of a plane at a time, half of them backward. It sums up ``groups`` of 16
    bytes of a row at a time; where several programs share an integral image, each builds at least ``band`` rows.
    """

    processors: int
    near_memory: int
    lanes: int = 512
    groups: int = 32  # threads of a warp: so that each row is within one
    band: int = 16


class Plan(NamedTuple):
    """How a call's work is shared out.

    Without ``bands``, ``programs`` take whole planes in one launch, one of ``parts`` of a channel's boxes each. With
    them, ``planes`` at a time have their integral images built in ``bands`` of ``band`` rows, and are then walked down
    in ``strips`` of ``strip`` rows. A walk goes down ``chunks`` of rows side by side, ``lanes`` columns at a time.
    """

    programs: int
    planes: int
    parts: int
    bands: int
    band: int
    strips: int
    strip: int
    chunks: int
    lanes: int
    warps: int


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
    names = ("forward", "backward", "integral")
    forward, backward, integral = (importlib.import_module(f".{name}", __package__) for name in names)
    return forward, backward, integral


@functools.cache
def limits(device: torch.device) -> Limits:
    """Of ``device``; of an imaginary small one where the kernels are interpreted."""
    if device.type != "cuda":
        return Limits(processors=4, near_memory=2**25)
    properties = torch.cuda.get_device_properties(device)
    # Some report the cache of one of several dies. What is written for others to read is marked to leave it first.
    near = max(properties.L2_cache_size * 3 // 4, 2**25)
    return Limits(properties.multi_processor_count, near)


@functools.lru_cache(256)
def plan_forward(planes: int, per_channel: int, h: int, w: int, h_out: int, w_out: int, limits: Limits) -> Plan:
    """A plane's integral image serves all boxes of its channel."""
    near = max(1, limits.near_memory // (8 * integral_numbers(h, w)))
    wanted = 2 * limits.processors
    parts = max(1, min(per_channel, min(wanted, near) // planes))
    programs = min(planes * parts, wanted, near)
    if 4 * programs >= 3 * limits.processors or h <= limits.band:
        return _plan(programs, planes, parts, 0, 1, h, (h_out, w_out), _FORWARD_LANES, limits)
    together = min(planes, near)
    return _plan(0, together, 1, together, wanted / (together * per_channel), h, (h_out, w_out), _FORWARD_LANES, limits)


@functools.lru_cache(256)
def plan_backward(planes: int, per_channel: int, h: int, w: int, h_out: int, w_out: int, limits: Limits) -> Plan:
    """Each box's grad_output has an integral image; a program adds up what all boxes of a channel do to its pixels."""
    near = max(1, limits.near_memory // (8 * integral_numbers(h_out, w_out)))
    wanted = 2 * limits.processors
    programs = min(planes, wanted, near)
    if 4 * programs >= 3 * limits.processors or h <= limits.band:
        return _plan(programs, planes, 1, 0, 1, h_out, (h, w), _BACKWARD_LANES, limits)
    together = max(1, min(planes, near // per_channel))
    return _plan(0, together, 1, together * per_channel, wanted / together, h_out, (h, w), _BACKWARD_LANES, limits)


def _plan(
    programs: int, planes: int, parts: int, integrals: int, strips: float,
    built: int, walked: tuple[int, int], lanes_of_thread: int, limits: Limits,
) -> Plan:  # fmt: skip
    """Planes of ``built`` rows are integrated, ``integrals`` of them by programs of their own; those of size ``walked``
    are walked down in about as many ``strips``."""
    h, (h_walked, w_walked) = built, walked
    bands = band = 0
    if integrals:
        band = max(limits.band, -(-h // max(1, 2 * limits.processors // integrals)))
        bands = -(-h // band)
    strip = max(_LEAST_ROWS, -(-h_walked // math.ceil(strips)))
    strips = -(-h_walked // strip)
    strip = -(-h_walked // strips)
    # A processor that has one program only has room for one of twice the size.
    warps = 16 if 0 < programs <= limits.processors else 8
    lanes = limits.lanes * warps // 8 * lanes_of_thread // 2
    chunks = max(1, min(lanes // w_walked, strip // _LEAST_ROWS))
    lanes = min(lanes, _power_of_two(chunks * w_walked))
    warps = max(1, lanes // (32 * lanes_of_thread))
    return Plan(programs, planes, parts, bands, band, strips, strip, chunks, lanes, warps)


def _tile(image: Tensor, warps: int, limits: Limits) -> dict[str, int]:
    """Tile of `build_integral_image` for planes of ``image``: rows G, groups K of E pixels, which start at
    multiples of STEP.
    """
    h, w = image.shape[2:]
    pixels = max(1, 16 // image.element_size())
    starts = (w, image.data_ptr() // image.element_size(), *image.stride()[:3])
    groups = min(_power_of_two(-(-w // pixels)), limits.groups)
    rows = min(_power_of_two(h), max(1, 32 * warps // groups))
    return {"STEP": 1 if any(start % pixels for start in starts) else pixels, "G": rows, "K": groups, "E": pixels}


def integral_numbers(h: int, w: int) -> int:
    """Of an integral image: its rows start with a place of padding and a zero, and are whole lines of a cache."""
    return (h + 1) * 16 * _sixteenths(w)


def _sixteenths(w: int) -> int:
    return -(-(w + 2) // 16)


def box_conv2d(input: Tensor, boxes: Tensor, normalize: bool, stride: int, out: Tensor | None = None) -> Tensor:
    """See `box_convolution.box_conv2d`. The result is contiguous."""
    return _forward(input, boxes, Epilogue(), normalize, stride, out)


def box_conv2d_fused(input: Tensor, boxes: Tensor, epilogue: Epilogue, normalize: bool, stride: int) -> Tensor:
    """The box convolution and its epilogue, in the same kernel."""
    return _forward(input, boxes, epilogue, normalize, stride, None)


def _forward(
    input: Tensor, boxes: Tensor, epilogue: Epilogue, normalize: bool, stride: int, out: Tensor | None
) -> Tensor:
    output = _empty(input, output_shape(input, boxes, stride)) if out is None else out
    if not output.numel():
        return output
    forward, _, integral = _kernels()
    batch, channels, h, w = _check_size(input)
    per_channel, (h_out, w_out) = boxes.shape[1], output.shape[2:]
    image, edges = _by_rows(input), boxes.contiguous()
    *parts, relu = epilogue
    scale, shift, residual = (None if part is None else part.contiguous() for part in parts)
    stride = min(stride, max(h, w))  # a larger one looks at the first pixel, too
    planes = batch * channels
    bounds = limits(input.device)
    plan = plan_forward(planes, per_channel, h, w, h_out, w_out, bounds)
    strides = image.stride()[:3]
    sizes = (channels, per_channel, h, w, h_out, w_out, stride, _sixteenths(w), plan.chunks, *strides)
    options = {
        "NORMALIZE": normalize, "DENSE": stride == 1, "RELU": relu, "WIDE": _is_wide(h, w, strides[2]),
        "LANES": plan.lanes, "num_warps": plan.warps, **_OPTIONS,
    }  # fmt: skip
    with _current(input.device):
        if not plan.bands:
            scratch = _scratch(input, plan.programs * integral_numbers(h, w))
            forward.box_planes[(plan.programs,)](
                image, edges, output, scale, shift, residual, scratch, planes, *sizes, plan.parts,
                **_tile(image, plan.warps, bounds), **options,
            )  # fmt: skip
            return output
        scratch = _scratch(input, plan.planes * integral_numbers(h, w))
        for first in range(0, planes, plan.planes):
            count = min(plan.planes, planes - first)
            _build(integral, image, scratch, first, count, plan)
            forward.box_bands[(count * per_channel * plan.strips,)](
                image, edges, output, scale, shift, residual, scratch, first, *sizes, plan.strips, plan.strip, **options
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
    _, backward, integral = _kernels()
    batch, channels, h, w = _check_size(input)
    per_channel, (h_out, w_out) = boxes.shape[1], grad_output.shape[2:]
    image, grad, edges = _by_rows(input), _by_rows(grad_output), boxes.contiguous()
    stride = min(stride, max(h, w))
    planes = batch * channels
    bounds = limits(input.device)
    plan = plan_backward(planes, per_channel, h, w, h_out, w_out, bounds)
    by_input, by_boxes = output_mask
    rows = grad.stride(2), image.stride(2)
    sizes = (
        channels, per_channel, h, w, h_out, w_out, stride, _sixteenths(w_out), plan.chunks,
        *grad.stride()[:3], *image.stride()[:3],
    )  # fmt: skip
    options = {
        "NORMALIZE": normalize, "DENSE": stride == 1, "BY_INPUT": by_input, "BY_BOXES": by_boxes,
        "WIDE": _is_wide(h, w, *rows), "LANES": plan.lanes, "num_warps": plan.warps, **_OPTIONS,
    }  # fmt: skip
    with _current(input.device):
        sums = _scratch(input, planes * plan.strips * per_channel * 5 if by_boxes else 1)
        partial = grad_input
        if by_input and per_channel > 1 and input.dtype not in (torch.float32, torch.float64):
            partial = _partial(input)
        if not plan.bands:
            scratch = _scratch(input, plan.programs * integral_numbers(h_out, w_out))
            backward.grad_planes[(plan.programs,)](
                grad, image, edges, partial, grad_input, sums, scratch, planes, *sizes,
                **_tile(grad, plan.warps, bounds), **options,
            )  # fmt: skip
        else:
            scratch = _scratch(input, plan.planes * per_channel * integral_numbers(h_out, w_out))
            for first in range(0, planes, plan.planes):
                count = min(plan.planes, planes - first)
                _build(integral, grad, scratch, first * per_channel, count * per_channel, plan)
                backward.grad_bands[(count * plan.strips,)](
                    grad, image, edges, partial, grad_input, sums, scratch, first, planes, *sizes,
                    plan.strips, plan.strip, **options,
                )  # fmt: skip
        if by_boxes:
            count = plan.strips * batch
            backward.edge_gradients[(channels * per_channel,)](
                sums, edges, grad_boxes, count, channels * per_channel, h, w,
                NORMALIZE=normalize, BLOCK=min(_power_of_two(count), 256), num_warps=1, **_OPTIONS,
            )  # fmt: skip
    return grad_input, grad_boxes


def _build(integral: ModuleType, image: Tensor, scratch: Tensor, first: int, count: int, plan: Plan) -> None:
    """Integral images of ``count`` planes from ``first`` on, into ``scratch``."""
    _, channels, h, w = image.shape
    strides = image.stride()[:3]
    bands = count * plan.bands
    tile = _tile(image, _BUILD_WARPS, limits(image.device))
    sums = scratch
    if plan.bands > 1:
        sums = _scratch(image, bands * w)
        integral.sum_bands[(bands,)](
            image, sums, first, channels, h, w, plan.bands, plan.band, *strides, STEP=tile["STEP"],
            R=min(_power_of_two(plan.band), 8), CW=min(_power_of_two(w), 128), num_warps=_BUILD_WARPS, **_OPTIONS,
        )  # fmt: skip
    integral.build_bands[(bands,)](
        image, sums, scratch, first, channels, h, w, _sixteenths(w), plan.bands, plan.band, *strides,
        **tile, num_warps=_BUILD_WARPS, **_OPTIONS,
    )  # fmt: skip


def _is_wide(h: int, w: int, *row_strides: int) -> bool:
    """Whether places in a plane or its integral image, and some rows beyond it, need 64 bits."""
    return 4 * (h + 1) * max(w + 16, *row_strides) >= 2**31


def _empty(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device)


def _partial(like: Tensor) -> Tensor:
    """For sums that half precision would round several times."""
    return torch.empty(like.shape, dtype=torch.float32, device=like.device)


def _scratch(like: Tensor, count: int) -> Tensor:
    return torch.empty(count, dtype=torch.float64, device=like.device)


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be that of the tensors."""
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(device)


def _by_rows(tensor: Tensor) -> Tensor:
    """The kernels read along rows, whose pixels must be neighbours; rows, channels and images may be anywhere."""
    return tensor if tensor.stride(3) == 1 else tensor.contiguous()


def _check_size(input: Tensor) -> tuple[int, int, int, int]:
    batch, channels, h, w = input.shape
    if max(h, w) > _LONGEST:
        raise ValueError(f"input must have at most 2**29 rows and columns for implementation 'triton', got {h} x {w}")
    return batch, channels, h, w


def _power_of_two(number: int) -> int:
    """The smallest that is not below ``number``."""
    return 1 << (number - 1).bit_length()
