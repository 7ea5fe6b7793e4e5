"""Brute-force box filter by area overlap, in float64 NumPy loops: no integral image, no cleverness, nothing of the package."""

import numpy as np


def overlap_1d(low: float, high: float, start: float) -> float:
    """Signed length of [low, high] within the pixel [start, start + 1]."""
    if low > high:
        return -overlap_1d(high, low, start)
    return max(0.0, min(high, start + 1.0) - max(low, start))


def _weights(low: float, high: float, size_out: int, size_in: int, stride: int) -> np.ndarray:
    return np.array(
        [
            # Both are shifted by the output's centre, so that the pixel's borders stay exact halves.
            [overlap_1d(low, high, p - 0.5 - i * stride) for p in range(size_in)]
            for i in range(size_out)
        ]
    )


def box_conv2d(image: np.ndarray, boxes: np.ndarray, *, normalize: bool = True, stride: int = 1) -> np.ndarray:
    """``image`` (B, C, H, W), ``boxes`` (C, M, 4) -> (B, C*M, ceil(H/stride), ceil(W/stride)), all float64."""
    image, boxes = np.asarray(image, np.float64), np.asarray(boxes, np.float64)
    batch, channels, height, width = image.shape
    per_channel = boxes.shape[1]
    h_out, w_out = -(-height // stride), -(-width // stride)
    output = np.zeros((batch, channels * per_channel, h_out, w_out))
    for c in range(channels):
        for m in range(per_channel):
            top, bottom, left, right = boxes[c, m]
            rows = _weights(top, bottom, h_out, height, stride)
            columns = _weights(left, right, w_out, width, stride)
            area = (bottom - top) * (right - left)
            scale = (0.0 if area == 0 else 1.0 / area) if normalize else 1.0
            for i in range(h_out):
                for j in range(w_out):
                    weight = np.outer(rows[i], columns[j]) * scale
                    output[:, c * per_channel + m, i, j] = (image[:, c] * weight).sum((-2, -1))
    return output


def edge_slopes(low: float, high: float, size_out: int, size_in: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Right-hand derivatives of the weights of one axis by ``low`` and by ``high``, each (size_out, size_in)."""

    def inside(edge: float) -> np.ndarray:
        return np.array(
            [[float(p - 0.5 <= edge + i * stride < p + 0.5) for p in range(size_in)] for i in range(size_out)]
        )

    return -inside(low), inside(high)


def gradients(
    grad: np.ndarray, image: np.ndarray, boxes: np.ndarray, *, normalize: bool = True, stride: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of sum(grad * box_conv2d(image, boxes)) by image and boxes, from equations (5) and (6), output by output."""
    grad, image, boxes = (np.asarray(a, np.float64) for a in (grad, image, boxes))
    _, channels, height, width = image.shape
    per_channel = boxes.shape[1]
    h_out, w_out = grad.shape[2:]
    grad_image, grad_boxes = np.zeros_like(image), np.zeros_like(boxes)
    for c in range(channels):
        for m in range(per_channel):
            top, bottom, left, right = boxes[c, m]
            rows = _weights(top, bottom, h_out, height, stride)
            columns = _weights(left, right, w_out, width, stride)
            slopes_v = edge_slopes(top, bottom, h_out, height, stride)
            slopes_h = edge_slopes(left, right, w_out, width, stride)
            tall, wide = bottom - top, right - left
            area = tall * wide
            scale = (0.0 if area == 0 else 1.0 / area) if normalize else 1.0
            for i in range(h_out):
                for j in range(w_out):
                    g = grad[:, c * per_channel + m, i, j]
                    weight = np.outer(rows[i], columns[j])
                    grad_image[:, c] += g[:, None, None] * weight * scale
                    total = (g * (image[:, c] * weight).sum((-2, -1))).sum()
                    by_edge = [
                        (g * (image[:, c] * np.outer(slope[i], columns[j])).sum((-2, -1))).sum() for slope in slopes_v
                    ] + [(g * (image[:, c] * np.outer(rows[i], slope[j])).sum((-2, -1))).sum() for slope in slopes_h]
                    grad_boxes[c, m] += np.array(by_edge) * scale
                    if normalize and area != 0:
                        grad_boxes[c, m] += total * scale * np.array([1 / tall, -1 / tall, 1 / wide, -1 / wide])
    return grad_image, grad_boxes
