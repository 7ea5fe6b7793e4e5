"""BoxConv2d: owns the parameters of a box convolution, nothing else."""

import weakref
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from . import boxes as box
from .functional import box_conv2d
from .state_dicts import AUTHORS_NAMES, from_authors, symmetric


class BoxConv2d(nn.Module):
    """Averages each input channel over ``num_filters`` boxes whose edges are learned.

    >>> layer = BoxConv2d(16, 4, max_input_h=64, max_input_w=128)
    >>> layer(torch.rand(2, 16, 64, 128)).shape
    torch.Size([2, 64, 64, 128])

    Input (B, C, H, W), output (B, C * num_filters, ceil(H / stride), ceil(W / stride)); output channel c*M + m is box m
    of channel c. Any input size works; boxes keep their size in pixels.

    Boxes are at least one pixel high and wide, and their edges within ``max_input_h`` / ``max_input_w`` of the output
    pixel. After the step of any `torch.optim` optimiser that holds them they are projected back into these limits;
    nothing needs to be called. A weight changed in another way is projected where it is read, so that no invalid box is
    ever used. The forward pass and evaluation change no weight.

    Args:
        in_channels: C.
        num_filters: boxes per channel, M.
        max_input_h, max_input_w: largest expected height and width of the input, in pixels: limits of initialisation
            and of training, not of what the layer accepts.
        reparametrization_factor: boxes are stored divided by about this times the image size, so that an optimiser's
            step of ``lr`` moves an edge by about ``lr * reparametrization_factor`` of the image. The authors used 8 by
            default, 0.86 in BoxENet, 1.5625 in BoxERFNet.
        normalize: average; False sums.
        stride: output pixel i is centred on input pixel i * stride.
        symmetric: boxes extend equally far to the left and to the right. Three numbers a box, (top, bottom, width), are
            stored in place of four (the parametrisation that section 4 of the paper suggests); `boxes` and `set_boxes`
            speak of four edges all the same. A state dict of either kind loads into the other: from three exactly; from
            four the width is kept and the horizontal offset dropped, with a warning.
        initial_boxes: how fresh boxes are drawn, see `boxes.initialise`. ``"uniform"``: the paper's; ``"log-uniform"``:
            about the output pixel, small ones as often as large ones; ``"mixed"``: half of each.
        device, dtype: of the stored boxes.

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
        self.in_channels = _positive_int("in_channels", in_channels)
        self.num_filters = _positive_int("num_filters", num_filters)
        self.max_input_h = _positive_int("max_input_h", max_input_h)
        self.max_input_w = _positive_int("max_input_w", max_input_w)
        self.stride = _positive_int("stride", stride)
        self.normalize = _bool("normalize", normalize)
        self.symmetric = _bool("symmetric", symmetric)
        if initial_boxes not in box.SIZES:
            raise ValueError(f"initial_boxes must be one of {', '.join(box.SIZES)}, got {initial_boxes!r}")
        self.initial_boxes = initial_boxes
        self.reparametrization_factor = _positive_float("reparametrization_factor", reparametrization_factor)
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype must be a floating-point dtype, got {dtype}")
        self.scaled_boxes = nn.Parameter(
            torch.empty(in_channels, num_filters, 3 if symmetric else 4, device=device, dtype=dtype)
        )
        _layers.add(self)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new boxes from torch's CPU generator, the same on every device.

        Symmetric boxes have the sizes that the same draw gives to four free edges.
        """
        if self.scaled_boxes.is_meta:
            return
        shape = self.in_channels, self.num_filters
        self._store(box.initialise(*shape, self.max_input_h, self.max_input_w, self.initial_boxes))

    @property
    def boxes(self) -> Tensor:
        """(C, M, 4) edges (top, bottom, left, right) in pixels, always valid; differentiable."""
        pixels = self._pixels(self.scaled_boxes)
        projected = box.project(pixels.detach(), *self._extent())
        # Plus an exact zero with a derivative of one: the gradient passes straight through, as in projected gradient
        # descent. A clamp would return none for an edge a rounding beyond its limit, and hold it there for ever.
        return projected + (pixels - pixels.detach())

    def set_boxes(self, pixels: Tensor) -> None:
        """Set all boxes, (C, M, 4) in pixels.

        Raises ValueError where the shape is wrong or a box is invalid: NaN, under a pixel in size, out of the limits,
        or lopsided in a symmetric layer.
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
        """Keep the boxes as they are: no gradient, no weight decay (the paper's dagger ablation). Returns the layer."""
        self.scaled_boxes.requires_grad_(False)
        self.scaled_boxes.grad = None
        return self

    def snap_(self) -> "BoxConv2d":
        """Move edges to the nearest pixel borders, at least a pixel apart, and freeze them. Returns the layer."""
        snapped = box.snap(self.boxes.detach(), *self._extent())
        if self.symmetric:
            # Where an edge was in the middle of a pixel, both went the same way.
            snapped = torch.cat((snapped[..., :2], -snapped[..., 3:], snapped[..., 3:]), -1)
        self._store(snapped)
        return self.freeze()

    def project_(self) -> None:
        """Project the stored boxes into the limits. Optimisers' steps do this by themselves."""
        self._store(box.project(self._pixels(self.scaled_boxes.detach()), *self._extent()))

    def forward(self, input: Tensor) -> Tensor:
        return box_conv2d(input, self.boxes, normalize=self.normalize, stride=self.stride)

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

        >>> layer.draw("boxes.svg", image=features[0].mean(0))          # doctest: +SKIP

        Args:
            path: ends in .png or .svg.
            image: what they lie over, (h, w), (h, w, 3) or (3, h, w), array or tensor: a feature map, or the image that
                the network sees, stretched over max_input_h x max_input_w.
            importance: (C * M,), how opaque each box is, see `box_convolution.analysis.importance`.
            most: how many are drawn: the most important, or without ``importance`` the largest; None draws all.
            centre: (row, column) of the output pixel, the middle by default.

        Raises:
            ValueError: naming the argument that does not fit.
        """
        from .analysis.box_picture import draw_boxes

        boxes, image, importance = (
            value.detach().cpu().double().numpy() if isinstance(value, Tensor) else value
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

    def _extent(self) -> tuple[float, float]:
        return float(self.max_input_h), float(self.max_input_w)

    def _scale(self, numbers: Tensor) -> Tensor:
        """(4,), or (3,): pixels in a unit of stored ``numbers``, which are four or three a box.

        A width has twice the unit of an edge: an optimiser's step then moves each edge as far as it does without
        symmetry.
        """
        h, w = (box.scale_of(extent, self.reparametrization_factor) for extent in self._extent())
        edges = box.per_axis(h, w, numbers).flatten()
        return edges if numbers.shape[-1] == 4 else torch.stack((edges[0], edges[1], 2 * edges[3]))

    @torch.no_grad()
    def _store(self, pixels: Tensor) -> None:
        self.scaled_boxes.copy_(self._scaled(pixels))

    def _pixels(self, scaled: Tensor) -> Tensor:
        """(C, M, 4) edges in pixels of stored numbers, not projected."""
        numbers = scaled * self._scale(scaled)
        return box.from_symmetric(numbers) if scaled.shape[-1] == 3 else numbers

    def _scaled(self, pixels: Tensor) -> Tensor:
        """(C, M, 4) pixels as this layer stores them."""
        numbers = box.to_symmetric(pixels) if self.symmetric else pixels
        return numbers / self._scale(numbers)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"initial_boxes": "uniform", **state})  # which layers pickled before lack
        _layers.add(self)  # copies and unpickled layers never pass __init__

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        metadata: Any,
        strict: bool,
        missing: Any,
        unexpected: Any,
        errors: Any,
    ) -> None:
        name = prefix + "scaled_boxes"
        shape = (self.in_channels, self.num_filters)
        if any(prefix + theirs in state_dict for theirs in AUTHORS_NAMES):
            try:
                pixels = from_authors(state_dict, prefix, shape, self._extent(), self.reparametrization_factor)
                if self.symmetric:
                    pixels = box.from_symmetric(symmetric(prefix + "x_min...y_max", pixels))
                state_dict[name] = self._scaled(pixels).to(self.scaled_boxes.dtype)
            except ValueError as error:
                errors.append(str(error))
                state_dict[name] = self.scaled_boxes.detach()
        other = (*shape, 4 if self.symmetric else 3)
        if isinstance(stored := state_dict.get(name), Tensor) and tuple(stored.shape) == other:
            pixels = self._pixels(stored.detach())
            state_dict[name] = self._scaled(box.from_symmetric(symmetric(name, pixels)) if self.symmetric else pixels)
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)


_layers: "weakref.WeakSet[BoxConv2d]" = weakref.WeakSet()


def _project_after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Projected gradient descent (section 3.1), for every optimiser and every layer, wherever they were made."""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for layer in list(_layers):
        if id(layer.scaled_boxes) in held and layer.scaled_boxes.requires_grad:
            layer.project_()


register_optimizer_step_post_hook(_project_after_step)


def _bool(name: str, value: bool) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__} {value!r}")
    return value


def _positive_float(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__} {value!r}")
    # Beyond these bounds a stored coordinate would soon leave the range of its floating-point format.
    if not 1e-3 <= value <= 1e3:
        raise ValueError(f"{name} must lie in [0.001, 1000], got {value}")
    return float(value)


def _positive_int(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__} {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value
