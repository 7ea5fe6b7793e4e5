"""The sum at the end of a block."""

from torch import Tensor


def residual_sum(branch: Tensor, input: Tensor) -> Tensor:
    """``branch + input`` as a new tensor, in the dtype of ``branch``.

    Blocks change in place only what they have made themselves, like this sum: what a module gets or returns may be kept
    by the user's hooks, or be a view that full backward hooks have put there. Autocast hands the first block a float32
    image beside a half-precision branch: the other blocks get half precision all the same. The image is what is
    converted, and not the sum: PyTorch 2.6 exports no change in place of what a conversion returned.
    """
    return branch + input.to(branch.dtype)
