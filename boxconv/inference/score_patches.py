"""Scores of images as patches, for all ways to apply a network: to the whole image, in tiles, to several views."""

import tempfile
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..data.bands import Picture
from ..data.image_files import PIXEL_LIMIT
from ..data.large_images import LargeImage
from ..data.transforms import EvalTransform
from ..progress_bar import progress_bar
from ..training.device import device_of
from ..training.evaluation import Patch, most_likely
from ..training.loading import ahead
from .averaging import averaged
from .options import InferenceOptions
from .tiles import blended, count_tiles

Labels = npt.NDArray[np.uint8]

MOST = 2**26
"""Number of scores that are enlarged at once: 256 MiB in float32."""


def scores_of(model: nn.Module, images: Tensor, size: tuple[int, int], options: InferenceOptions) -> Iterator[Patch]:
    """Scores of images (B, C, h, w), which the network sees at this size, as patches of images of ``size`` (H, W).

    They are probabilities if `options.averages`, else logits.
    """
    if options.tile is None:
        yield from enlarged(averaged(model, images) if options.tta else model(images), size)
        return

    def strips(rows: Iterable[tuple[int, int]]) -> Iterator[Callable[[int, int], Tensor]]:
        for top, bottom in rows:
            strip = images[:, :, top:bottom]
            yield lambda left, right, strip=strip: strip[..., left:right]  # type: ignore[misc]

    h, w = images.shape[2:]
    patches = blended(strips, _probabilities(model, options), (h, w), options.tile, options.shared)
    yield from patches if (h, w) == size else enlarged(_joined(patches, (h, w)), size)


def scores_of_image(
    model: nn.Module,
    image: Picture | LargeImage,
    transform: EvalTransform,
    options: InferenceOptions,
    *,
    progress: bool = False,
) -> Iterator[Patch]:
    """Scores of one image as patches at its own size; of a `LargeImage`, only some rows are in memory at a time."""
    size, device = (image.height, image.width), device_of(model)
    if options.tile is None or options.size is not None:
        seen = EvalTransform(options.size or transform.size, transform.mean, transform.std).image(image)
        yield from scores_of(model, seen[None].to(device), size, options)
        return
    as_it_is = EvalTransform(None, transform.mean, transform.std)

    def strips(rows: Iterable[tuple[int, int]]) -> Iterator[Callable[[int, int], Tensor]]:
        for strip in ahead((image.crop((0, top, image.width, bottom)) for top, bottom in rows), depth=1):

            def tile(left: int, right: int, strip: Picture = strip) -> Tensor:
                return as_it_is.image(strip.crop((left, 0, right, strip.height)))[None].to(device)

            yield tile

    patches = blended(strips, _probabilities(model, options), size, options.tile, options.shared)
    total = count_tiles(size, options.tile, options.shared)
    yield from progress_bar(patches, desc="in tiles", unit="tile", total=total, shown=progress and total > 1)


def label_map(patches: Iterable[Patch], size: tuple[int, int]) -> Labels:
    """Class indices (h, w) of an image of ``size`` from its patches. A large map is kept in a temporary file."""
    labels = _empty_map(size)
    for top, left, scores in patches:
        found = most_likely(scores)[0].to("cpu", torch.uint8).numpy()
        labels[top : top + found.shape[0], left : left + found.shape[1]] = found
    return labels


def labels_and_probabilities(
    patches: Iterable[Patch], size: tuple[int, int], *, averaged: bool
) -> tuple[Labels, npt.NDArray[np.float16]]:
    """`label_map`, and the probabilities (K, h, w). ``averaged``: the scores are probabilities already, not logits."""
    scores = _joined(patches, size)
    labels: Labels = most_likely(scores)[0].to("cpu", torch.uint8).numpy()
    probabilities = scores if averaged else scores.float().softmax(1)
    return labels, probabilities[0].to("cpu", torch.float16).numpy()


def _empty_map(size: tuple[int, int]) -> Labels:
    if size[0] * size[1] <= PIXEL_LIMIT:
        return np.empty(size, np.uint8)
    with tempfile.TemporaryFile(prefix="boxconv-labels-") as file:  # exists until the map is freed
        return np.memmap(file, np.uint8, "w+", shape=size)


def enlarged(scores: Tensor, size: tuple[int, int]) -> Iterator[Patch]:
    """Scores (B, K, h, w) resized bilinearly to ``size``, in bands of rows if they would need much memory."""
    b, k = scores.shape[:2]
    rows = max(1, MOST // (b * k * size[1]))
    if scores.shape[2:] == size:
        yield Patch(0, 0, scores)
    elif rows >= size[0]:
        yield Patch(0, 0, interpolate(scores, size, mode="bilinear", align_corners=False))
    else:
        for top in range(0, size[0], rows):
            yield Patch(top, 0, _rows(scores, size, top, min(top + rows, size[0])))


def _rows(scores: Tensor, size: tuple[int, int], top: int, bottom: int) -> Tensor:
    """Rows ``top`` to ``bottom`` of the result of `interpolate` to ``size``."""
    b, k, h, w = scores.shape
    centres = (torch.arange(top, bottom, device=scores.device) + 0.5) * (h / size[0]) - 0.5
    centres = centres.clamp_(0, h - 1)
    upper = centres.long()
    lower = (upper + 1).clamp_max(h - 1)
    rows = torch.lerp(scores[:, :, upper], scores[:, :, lower], (centres - upper).to(scores.dtype)[:, None])
    wide = interpolate(rows.reshape(b * k, -1, w), size[1], mode="linear", align_corners=False)
    return wide.view(b, k, bottom - top, size[1])


def _probabilities(model: nn.Module, options: InferenceOptions) -> Callable[[Tensor], Tensor]:
    return lambda images: averaged(model, images) if options.tta else model(images).softmax(1)


def _joined(patches: Iterable[Patch], size: tuple[int, int]) -> Tensor:
    """Join the patches of an image of ``size`` (h, w) into one tensor (B, K, h, w)."""
    whole: Tensor | None = None
    for top, left, scores in patches:
        if whole is None:
            whole = scores.new_empty(*scores.shape[:2], *size)
        whole[:, :, top : top + scores.shape[2], left : left + scores.shape[3]] = scores
    assert whole is not None
    return whole
