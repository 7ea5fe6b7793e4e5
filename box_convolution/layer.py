"""BoxConv2d: the module that stores the boxes of a box convolution; the computation is in `functional`."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized

from . import boxes as box
from . import project_after_step
from .argument_checks import as_bool, as_float, as_int
from .functional import box_conv2d
from .ops import backend
from .ops.projected_boxes import projected_boxes
from .sharded import whole, write
from .state_dicts import before_loading, note_unit
from .torch_internals import has_hooks


class BoxConv2d(nn.Module):
    """Average each input channel over ``num_filters`` boxes whose edges are learned (equations 3-6 of the paper).

    Examples:
        >>> layer = BoxConv2d(16, 4, max_input_h=64, max_input_w=128)
        >>> layer(torch.rand(2, 16, 64, 128)).shape
        torch.Size([2, 64, 64, 128])

    Input (B, C, H, W), output (B, C * num_filters, ceil(H / stride), ceil(W / stride)); output channel ``c*M + m`` is
    box m of channel c. Any input size works; boxes keep their size in pixels.

    Boxes are at least one pixel high and wide, and their edges are within ``max_input_h`` / ``max_input_w`` of the
    output pixel. Each step of a `torch.optim` optimiser moves boxes back into these limits by itself. If you change
    weights in another way, boxes are projected when they are read, so that no invalid box is ever used. The forward
    pass never changes a weight.

    Args:
        in_channels: C.
        num_filters: boxes per channel, M.
        max_input_h: largest expected height of the input, in pixels. It limits the boxes, at initialisation and in
            training; the layer accepts any input size.
        max_input_w: the same for the width.
        reparametrization_factor: boxes are stored divided by this factor times max_input_h (max_input_w), rounded to a
            power of two. With Adam, a step moves an edge by about ``lr * reparametrization_factor`` times that size.
            From 0.001 to 1000; the authors used 8 by default, 0.86 in BoxENet, 1.5625 in BoxERFNet.
        normalize: divide by the box's area; False: return sums instead of averages.
        stride: output pixel i is centred on input pixel i * stride.
        symmetric: boxes extend equally far to the left and to the right. Three numbers a box, (top, bottom, width), are
            stored instead of four (the parametrisation that section 4 of the paper suggests); `boxes` and `set_boxes`
            still use four edges. A state dict of either kind loads into the other. Three numbers load exactly. Of four,
            the width is kept and the horizontal offset is dropped, with a warning.
        initial_boxes: distribution of fresh boxes, see `boxes.initialise`. ``"uniform"``: the paper's;
            ``"log-uniform"``: around the output pixel, small ones as often as large ones; ``"mixed"``: half of each.
        device: of the stored boxes.
        dtype: of the stored boxes.

    Raises:
        TypeError, ValueError: naming the argument, what came and what was expected.
    """

    def __init__(
        self,
        in_channels: int,
        num_filters: int,
        max_input_h: int,
        max_input_w: int,
        *,
        reparametrization_factor: float = 8.0,
        normalize: bool = True,
        stride: int = 1,
        symmetric: bool = False,
        initial_boxes: str = "uniform",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = as_int("in_channels", in_channels, least=1)
        self.num_filters = as_int("num_filters", num_filters, least=1)
        self.max_input_h = as_int("max_input_h", max_input_h, least=1)
        self.max_input_w = as_int("max_input_w", max_input_w, least=1)
        self.stride = as_int("stride", stride, least=1)
        self.normalize = as_bool("normalize", normalize)
        self.symmetric = as_bool("symmetric", symmetric)
        if initial_boxes not in box.SIZES:
            raise ValueError(f"initial_boxes must be one of {', '.join(box.SIZES)}, got {initial_boxes!r}")
        self.initial_boxes = initial_boxes
        # Beyond these bounds a stored coordinate would soon leave the range of its floating-point format.
        self.reparametrization_factor = as_float(
            "reparametrization_factor", reparametrization_factor, least=1e-3, most=1e3
        )
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be a floating-point dtype, got {dtype}")
        self.scaled_boxes = nn.Parameter(
            torch.empty(self.in_channels, self.num_filters, 3 if self.symmetric else 4, device=device, dtype=dtype)
        )
        self.loaded_reach: tuple[int, int] | None = None  # limits of loaded boxes beyond our own: `state_dicts`
        self._valid: tuple[Tensor, Tensor] | None = None  # stored numbers that were found valid, and their pixels
        self.register_load_state_dict_pre_hook(before_loading)
        project_after_step.layers.add(self)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new random boxes from torch's CPU generator, so that they are the same on every device.

        A symmetric layer gets boxes of the same sizes as another one from the same random numbers. On the meta device
        this does nothing.
        """
        if self.scaled_boxes.is_meta:
            return
        shape = self.in_channels, self.num_filters
        self._store(box.initialise(*shape, self.max_input_h, self.max_input_w, self.initial_boxes))

    @property
    def boxes(self) -> Tensor:
        """(C, M, 4) edges (top, bottom, left, right) in pixels, always valid; differentiable.

        Boxes loaded from a layer with wider limits count as valid until training, or anything else, changes them. If
        the layer is sharded over several processes, all of them must read this property.
        """
        scaled = whole(self.scaled_boxes)
        return self._pixels(scaled) if self._known(scaled) is not None else self._validated(scaled)

    def set_boxes(self, pixels: Tensor) -> None:
        """Set all boxes, (C, M, 4) in pixels.

        Raises ValueError if the shape is wrong or a box is invalid: NaN, under a pixel in size, outside the limits, or
        not symmetric in a symmetric layer.
        """
        shape = (self.in_channels, self.num_filters, 4)
        pixels = torch.as_tensor(pixels)
        if tuple(pixels.shape) != shape:
            raise ValueError(
                f"pixels must have shape {shape} = (in_channels, num_filters, 4), got {tuple(pixels.shape)}"
            )
        pixels = pixels.detach().to(torch.promote_types(pixels.dtype, self.scaled_boxes.dtype))
        invalid = (~box.is_valid(pixels, *self._extent())).nonzero()
        if len(invalid):
            c, m = invalid[0].tolist()
            raise ValueError(
                f"pixels holds {len(invalid)} invalid boxes, the first at [{c}, {m}]: (top, bottom, left, right) = "
                f"{tuple(round(edge, 4) for edge in pixels[c, m].tolist())}; expected bottom - top >= 1, "
                f"right - left >= 1, |top|, |bottom| <= max_input_h = {self.max_input_h} and |left|, |right| <= "
                f"max_input_w = {self.max_input_w}"
            )
        if self.symmetric and (lopsided := (pixels[..., 2] != -pixels[..., 3]).nonzero()).numel():
            c, m = lopsided[0].tolist()
            raise ValueError(
                f"pixels holds {len(lopsided)} boxes that are not symmetric, the first at [{c}, {m}]: left = "
                f"{pixels[c, m, 2].item():.6g}, right = {pixels[c, m, 3].item():.6g}; expected left = -right, because "
                "symmetric=True (box_convolution.boxes.to_symmetric finds the nearest)"
            )
        self._store(pixels)

    def freeze(self) -> "BoxConv2d":
        """Stop learning the boxes: no gradient, no weight decay (a dagger in the paper's tables). Returns the layer."""
        for parameter in self._behind_boxes():
            parameter.requires_grad_(False)
            parameter.grad = None
        return self

    def snap_(self) -> "BoxConv2d":
        """Move edges to the nearest pixel borders, at least one pixel apart, and freeze them. Returns the layer."""
        snapped = box.snap(self.boxes.detach(), *self._extent())
        if self.symmetric:
            # In the middle of a pixel, both edges move right: then left is no longer -right.
            snapped = torch.cat((snapped[..., :2], -snapped[..., 3:], snapped[..., 3:]), -1)
        self._store(snapped)
        return self.freeze()

    def project_(self) -> None:
        """Project the stored boxes into the limits. Optimiser steps do this by themselves."""
        scaled = self.scaled_boxes
        if self.loaded_reach is None and self._known(scaled) is not None:
            return
        project_after_step.project_stored(scaled, self._projected)
        self.loaded_reach = None
        if _may_look_at(scaled):
            with torch.no_grad():
                self._validated(scaled)

    def _projected(self, scaled: Tensor) -> Tensor:
        """Stored numbers of the nearest valid boxes."""
        pixels, (h, w) = self._pixels(scaled), self._extent()
        return self._scaled((projected_boxes if _kernel_projects(scaled) else box.project)(pixels, h, w))

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C * num_filters, H', W'), or an image without the batch axis, as in nn.Conv2d."""
        if isinstance(input, fx.Proxy):
            return self._as_node(input)
        scaled = whole(self.scaled_boxes)
        boxes = self._known(scaled)
        if boxes is None:
            boxes = self._validated(scaled)
        elif scaled.requires_grad and torch.is_grad_enabled():
            boxes = self._pixels(scaled)
        return box_conv2d(input, boxes, normalize=self.normalize, stride=self.stride)

    def draw(
        self,
        path: str | Path,
        *,
        image: Any = None,
        importance: Any = None,
        most: int | None = 32,
        centre: tuple[float, float] | None = None,
        title: str = "",
    ) -> None:
        """Draw the boxes of one output pixel into a PNG or SVG file (needs matplotlib).

        Examples:
            >>> layer.draw("boxes.svg", image=features)          # doctest: +SKIP

        Args:
            path: ends in .png or .svg.
            image: background, an array or tensor (h, w), (h, w, 3), (C, h, w) or (B, C, h, w): the network's image, or
                features, whose mean over channels is shown. Of a batch, the first is shown. It is stretched to
                max_input_h x max_input_w.
            importance: (C * M,), opacity of each box, see `boxconv.analysis.importance`.
            most: draw only so many boxes, the most important ones (without ``importance`` the largest); None draws all.
            centre: (row, column) of the output pixel, the middle by default.

        Raises:
            TypeError, ValueError: naming the argument that does not fit.
            ImportError: numpy or matplotlib is not installed.
        """
        from .extras import require

        require("drawing", "numpy", "matplotlib")
        from .drawing import draw_boxes

        boxes, image, importance = (
            (value if value.dtype == torch.uint8 else value.double()).detach().cpu().numpy()
            if isinstance(value, Tensor)
            else value
            for value in (self.boxes.flatten(0, 1), image, importance)
        )
        draw_boxes(
            boxes,
            path,
            map_size=(self.max_input_h, self.max_input_w),
            image=image,
            importance=importance,
            most=most,
            centre=centre,
            title=title,
        )

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.num_filters}, max_input_h={self.max_input_h}, max_input_w={self.max_input_w}",
            f"out_channels={self.in_channels * self.num_filters}",
        ]
        if self.stride != 1:
            parts.append(f"stride={self.stride}")
        if not self.normalize:
            parts.append("normalize=False")
        if self.symmetric:
            parts.append("symmetric=True")
        if not self.scaled_boxes.requires_grad:
            parts.append("frozen")
        return ", ".join(parts)

    def _as_node(self, input: fx.Proxy) -> Any:
        """Record this layer as one node of a `torch.fx` graph, like the layers of torch.nn."""
        path = input.tracer.path_of_module(self)  # type: ignore[attr-defined]
        if not path or type(self).forward is not BoxConv2d.forward or has_hooks(self):
            raise NotImplementedError(
                "torch.fx traces networks that hold BoxConv2d layers, but not the layer by itself, one with forward "
                "hooks, or a subclass with a forward of its own: use a Tracer whose is_leaf_module is true for it"
            )
        return input.tracer.create_proxy("call_module", path, (input,), {})

    def _extent(self) -> tuple[float, float]:
        return float(self.max_input_h), float(self.max_input_w)

    def _unit(self) -> tuple[float, float]:
        """Return how many pixels one unit of a stored edge is, vertically and horizontally.

        The unit of a stored width is twice as large. So an optimiser step moves each edge as far as without symmetry.
        """
        factor = self.reparametrization_factor
        return box.scale_of(self.max_input_h, factor), box.scale_of(self.max_input_w, factor)

    def _behind_boxes(self) -> list[nn.Parameter]:
        """List the parameters that boxes are learned with: the stored boxes, or those of their parametrisation."""
        if is_parametrized(self, "scaled_boxes"):
            return list(self.get_submodule("parametrizations.scaled_boxes").parameters())
        return [self.scaled_boxes]

    @torch.no_grad()
    def _store(self, pixels: Tensor) -> None:
        scaled = self._scaled(pixels)
        if is_parametrized(self, "scaled_boxes"):  # which refuses values that it cannot invert
            self.scaled_boxes = scaled.to(self.scaled_boxes)  # type: ignore[assignment]
        else:
            write(self.scaled_boxes, scaled)
        self.loaded_reach = None

    def _pixels(self, scaled: Tensor, *, symmetric: bool | None = None) -> Tensor:
        """Convert stored numbers, three per box if ``symmetric``, to edges (C, M, 4) in pixels; without projection."""
        h, w = self._unit()
        if not (self.symmetric if symmetric is None else symmetric):
            return scaled * box.constant((h, h, w, w), scaled)
        # Edges are half a width away from the middle. As the unit of a width is 2 * w, this half cancels out.
        return torch.cat((scaled, scaled[..., 2:]), -1) * box.constant((h, h, -w, w), scaled)

    def _scaled(self, pixels: Tensor) -> Tensor:
        """Convert edges (C, M, 4) in pixels to the numbers that this layer stores."""
        h, w = self._unit()
        if not self.symmetric:
            return pixels / box.constant((h, h, w, w), pixels)
        return box.to_symmetric(pixels) / box.constant((h, h, 2 * w), pixels)

    # On the CPU, boxes are validated only once after each change of the stored numbers. The cache compares values: that
    # costs next to nothing, and no kind of change escapes it.

    def _known(self, scaled: Tensor) -> Tensor | None:
        """Return the cached pixels, if exactly these stored numbers were found valid before. Do not write to them."""
        if not _may_look_at(scaled) or self._valid is None:
            return None
        numbers, pixels = self._valid
        return pixels if _equal(numbers, scaled) else None

    def _validated(self, scaled: Tensor) -> Tensor:
        pixels = self._pixels(scaled)
        numbers = pixels.detach()
        h, w = self.loaded_reach or self._extent()
        if _kernel_projects(scaled):
            projected = projected_boxes(numbers, h, w)
            if not pixels.requires_grad:
                return projected
            numbers.copy_(projected)  # in the memory of `pixels`, which keeps its gradient
            return pixels
        projected = box.project(numbers, h, w)
        if _may_look_at(scaled) and _equal(projected, pixels):
            with torch.inference_mode(False):
                self._valid = scaled.detach().clone(), projected.clone()
            return pixels
        # The added term is exactly zero and has a derivative of one, so the gradient passes straight through, as in
        # projected gradient descent. A clamp would give no gradient to an edge that lies beyond its limit by a rounding
        # error, and the edge could never come back. The difference of two infinities is not a number.
        return projected + (pixels - numbers).nan_to_num()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        note_unit(self, destination, prefix)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_valid": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        project_after_step.layers.add(self)  # copies and unpickled layers never pass __init__


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether the numbers are the same; False if a tracer hides them."""
    try:
        return one.dtype == other.dtype and torch.equal(one, other)
    except RuntimeError:
        return False


def _may_look_at(scaled: Tensor) -> bool:
    """Whether Python may read the numbers: not on a GPU, which it would have to wait for, and not while tracing."""
    return scaled.is_cpu and _is_plain(scaled)


def _kernel_projects(scaled: Tensor) -> bool:
    """Whether boxes are projected by one kernel: on a GPU. When traced, a compiler fuses PyTorch's operations."""
    return not scaled.is_cpu and _is_plain(scaled) and backend(scaled) == "triton"


def _is_plain(scaled: Tensor) -> bool:
    """Whether this is a parameter with numbers of its own: nothing traces, shards, maps or transforms it."""
    return type(scaled) is nn.Parameter and not torch.compiler.is_compiling() and not torch.jit.is_tracing()
