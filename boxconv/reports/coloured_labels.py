"""Pictures of label maps as arrays: classes, errors and void."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.intp]

WRONG = (214, 40, 40)
VOID, VOID_STRIPE = (203, 207, 213), (140, 146, 156)


def checked_rows(
    images: Sequence[npt.ArrayLike], truths: Sequence[npt.ArrayLike], predictions: Sequence[npt.ArrayLike], void: int
) -> list[tuple[Picture, Labels, Labels]]:
    """Images (h, w, 3) uint8, each with its two label maps (h, w), in which values outside 0..void-1 become `void`.

    Raises ValueError, naming the argument and the row, if a shape, a type or the number of rows does not fit.
    """
    lengths = [len(images), len(truths), len(predictions)]
    if len(set(lengths)) != 1 or not lengths[0]:
        raise ValueError(f"images, truths and predictions must be as many, at least one; found {lengths}")
    rows = []
    for i, image in enumerate(images):
        picture = np.asarray(image)
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
            raise ValueError(f"images[{i}] must be (h, w, 3) uint8, found {picture.shape} {picture.dtype}")
        maps = []
        for name, given in (("truths", truths[i]), ("predictions", predictions[i])):
            labels = np.asarray(given)
            if labels.shape != picture.shape[:2] or labels.dtype.kind not in "iu":
                found = f"{labels.shape} {labels.dtype}"
                raise ValueError(f"{name}[{i}] must be {picture.shape[:2]} integers like its image, found {found}")
            maps.append(np.where((labels >= 0) & (labels < void), labels, void).astype(np.intp))
        rows.append((picture, maps[0], maps[1]))
    return rows


def errors_picture(image: Picture, truth: Labels, prediction: Labels, void: int) -> tuple[Picture, float | None]:
    """Picture (h, w, 3) of the errors, and the fraction of the scored pixels that are right.

    The image is pale, wrong pixels are red, void is striped. Pixels whose truth is `void` are not scored; the fraction
    is None if there are no others.
    """
    pale = 0.3 * (image @ (0.299, 0.587, 0.114)) + 0.7 * 255
    picture = np.repeat(pale[..., None], 3, axis=2).astype(np.uint8)
    scored, wrong = truth != void, truth != prediction
    picture[wrong & scored] = WRONG
    right = float(1 - wrong[scored].mean()) if scored.any() else None
    return striped(picture, ~scored), right


def striped(picture: Picture, where: npt.NDArray[np.bool_]) -> Picture:
    """`picture` (h, w, 3) with grey stripes `where` (h, w). Plain grey could be taken for a class, often the sky."""
    i, j = np.indices(where.shape)
    dark = (i + j) // max(1, where.shape[1] // 60) % 3 == 0
    return np.where(where[..., None], np.where(dark[..., None], VOID_STRIPE, VOID), picture).astype(np.uint8)


def overlay(picture: Picture, colours: Picture) -> Picture:
    """The picture (h, w, 3) with the colours of classes (h, w, 3) over it, half transparent."""
    return ((picture.astype(np.uint16) + colours) // 2).astype(np.uint8)
