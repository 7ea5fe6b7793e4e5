"""The functional form of the box convolution."""

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from .argument_checks import as_bool, as_int
from .ops import box_operator, given_memory


def box_conv2d(
    input: Tensor, boxes: Tensor, *, normalize: bool = True, stride: int = 1, out: Tensor | None = None
) -> Tensor:
    """Average every channel of an image over boxes with real-valued edges (equations 3-4 of the paper).

    Examples:
        >>> image = torch.rand(1, 3, 64, 64)
        >>> boxes = torch.tensor([-7.5, 7.5, -2.25, 30.0]).expand(3, 2, 4)     # 2 boxes for each of 3 channels
        >>> box_conv2d(image, boxes).shape
        torch.Size([1, 6, 64, 64])

    Args:
        input: (B, C, H, W), or (C, H, W), float16, bfloat16, float32 or float64; any strides.
        boxes: (C, M, 4), edges (top, bottom, left, right) in pixels relative to the centre of the output pixel,
            positive = down / right. Pixel i covers [i - 1/2, i + 1/2], so (-.5, .5, -.5, .5) is the identity. Boxes may
            be float32 if the input has half precision. Edges may lie outside the image, where its values are 0.
        normalize: divide by the full area of the box, also where the box leaves the image. False: return sums instead
            of averages.
        stride: output pixel i is centred on input pixel i * stride.
        out: contiguous tensor for the result, if no gradient is needed; saves the allocation of a large output.

    Returns:
        ``(B, C*M, ceil(H / stride), ceil(W / stride))``, without B if ``input`` has none; dtype of ``input``. Channel
        ``c*M + m`` is box m of channel c.

    This works under autocast (boxes are never cast), torch.compile, torch.export and vmap. `torch.func.grad`, `jvp` and
    forward-mode differentiation use the plain-PyTorch reference.

    Gradients for ``input`` (equation 5) and ``boxes`` (equation 6) can be differentiated again. On a pixel border, the
    gradient of an edge is the right-hand derivative. A box of zero area averages to 0. If top > bottom or left > right,
    the sum changes its sign, the average does not. A NaN edge makes the output of its own box NaN, and no other output.
    A NaN or infinite pixel reaches every output whose box covers it, and may reach other outputs of the same image and
    channel.

    The error of a float32 mean is at most 1e-6 of the largest |input| of its image and channel. It is also at most 8e-6
    of their root mean square, plus float32's own rounding, for every size and content. With float64 boxes, all sums are
    float64. A box of one whole pixel copies that pixel, bit for bit. Sums (``normalize=False``) of whole pixels with
    integer values are exact, if the result's dtype can represent them.

    Raises:
        TypeError: an argument is not a tensor, or its dtype is not floating point.
        ValueError: shapes, devices or stride do not fit together; the message names the argument.
        RuntimeError: ``out`` is given, but a gradient is needed.
    """
    if has_torch_function((input, boxes)):  # torch.fx, modes and tensor-like classes see one function, as of torch.nn
        return handle_torch_function(
            box_conv2d, (input, boxes), input, boxes, normalize=normalize, stride=stride, out=out
        )
    for name, argument in (("input", input), ("boxes", boxes)):
        if not isinstance(argument, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(argument).__name__}")
    stride, normalize = as_int("stride", stride), as_bool("normalize", normalize)
    if input.ndim not in (3, 4):
        raise ValueError(
            "input must have 4 dimensions (batch, channels, height, width), or 3 without the batch, got shape "
            f"{tuple(input.shape)}"
        )
    if input.ndim == 3:
        if out is None:
            return box_conv2d(input[None], boxes, normalize=normalize, stride=stride)[0]
        given_memory.write_to(out[None] if isinstance(out, Tensor) else out, input[None], boxes, normalize, stride)
        return out
    if out is not None:
        return given_memory.write_to(out, input, boxes, normalize, stride)
    return box_operator.differentiable(input, boxes, normalize, stride)
