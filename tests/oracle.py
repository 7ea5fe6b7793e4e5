"""Brute-force box filter by area overlap, in float64 NumPy, without integral images and without code of the package.

For each box, an array (H', W', H, W) has the area of every input pixel that lies in the box around every output pixel.
Outputs and gradients are plain sums over this array. Memory and time grow as (H * W)^2, so images must be small.
"""

import numpy as np


def length(low: float, high: float) -> float:
    """Signed length of [low, high]; 0 if both are the same infinity."""
    return 0.0 if low == high else high - low


def overlaps(low: float, high: float, size_out: int, size_in: int, stride: int) -> np.ndarray:
    """Signed length, within each input pixel, of [low, high] around each output pixel: (size_out, size_in)."""
    if low > high:
        return -overlaps(high, low, size_out, size_in, stride)
    start = _starts(size_out, size_in, stride)
    return np.maximum(0.0, np.minimum(high, start + 1) - np.maximum(low, start))


def edge_slopes(edge: float, size_out: int, size_in: int, stride: int) -> np.ndarray:
    """Right-hand derivative of `overlaps` for ``high``; that for ``low`` is the negative: (size_out, size_in)."""
    start = _starts(size_out, size_in, stride)
    return ((start <= edge) & (edge < start + 1)).astype(np.float64)


def _starts(size_out: int, size_in: int, stride: int) -> np.ndarray:
    """Lower borders of input pixels relative to the centres of output pixels: (size_out, size_in), exact halves."""
    return np.arange(size_in)[None, :] - 0.5 - np.arange(size_out)[:, None] * stride


def box_conv2d(image: np.ndarray, boxes: np.ndarray, *, normalize: bool = True, stride: int = 1) -> np.ndarray:
    """``image`` (B, C, H, W), ``boxes`` (C, M, 4) -> (B, C*M, ceil(H/stride), ceil(W/stride)), all float64."""
    image, boxes = np.asarray(image, np.float64), np.asarray(boxes, np.float64)
    h_out, w_out = (-(-size // stride) for size in image.shape[2:])
    output = np.zeros((len(image), boxes.shape[0] * boxes.shape[1], h_out, w_out))
    for c, m in np.ndindex(*boxes.shape[:2]):
        rows, columns, scale = _parts(boxes[c, m], (h_out, w_out), image.shape[2:], normalize, stride)
        output[:, c * boxes.shape[1] + m] = np.einsum("ijpq,bpq->bij", _area(rows, columns), image[:, c]) * scale
    return output


def gradients(
    grad: np.ndarray, image: np.ndarray, boxes: np.ndarray, *, normalize: bool = True, stride: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of sum(grad * box_conv2d(image, boxes)) for image and boxes, by equations (5) and (6), box by box."""
    grad, image, boxes = (np.asarray(a, np.float64) for a in (grad, image, boxes))
    height, width = image.shape[2:]
    h_out, w_out = grad.shape[2:]
    grad_image, grad_boxes = np.zeros_like(image), np.zeros_like(boxes)
    for c, m in np.ndindex(*boxes.shape[:2]):
        top, bottom, left, right = boxes[c, m]
        rows, columns, scale = _parts(boxes[c, m], (h_out, w_out), (height, width), normalize, stride)
        area, g = _area(rows, columns), grad[:, c * boxes.shape[1] + m]
        grad_image[:, c] += np.einsum("bij,ijpq->bpq", g, area) * scale
        area_slopes = [
            _area(-edge_slopes(top, h_out, height, stride), columns),
            _area(edge_slopes(bottom, h_out, height, stride), columns),
            _area(rows, -edge_slopes(left, w_out, width, stride)),
            _area(rows, edge_slopes(right, w_out, width, stride)),
        ]
        for edge, area_slope in enumerate(area_slopes):
            grad_boxes[c, m, edge] = (g * np.einsum("ijpq,bpq->bij", area_slope, image[:, c])).sum() * scale
        if normalize and scale:
            total = (g * np.einsum("ijpq,bpq->bij", area, image[:, c])).sum() * scale
            tall, wide = length(top, bottom), length(left, right)
            grad_boxes[c, m] += total * np.array([1 / tall, -1 / tall, 1 / wide, -1 / wide])
    return grad_image, grad_boxes


def _parts(
    box: np.ndarray, size_out: tuple[int, ...], size_in: tuple[int, ...], normalize: bool, stride: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """The overlaps of a box along both axes, and the factor of the sum over it."""
    rows = overlaps(box[0], box[1], size_out[0], size_in[0], stride)
    columns = overlaps(box[2], box[3], size_out[1], size_in[1], stride)
    return rows, columns, _scale(box, normalize)


def _area(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return rows[:, None, :, None] * columns[None, :, None, :]


def _scale(box: np.ndarray, normalize: bool) -> float:
    """Factor of the sum over a box. The average over a box with an area of zero or infinity is 0."""
    tall, wide = length(box[0], box[1]), length(box[2], box[3])
    if not normalize:
        return 1.0
    return 0.0 if tall == 0 or wide == 0 else 1 / tall / wide
