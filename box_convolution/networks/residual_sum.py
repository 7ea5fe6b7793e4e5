"""The sum at the end of a block."""

from torch import Tensor


def residual_sum(branch: Tensor, input: Tensor) -> Tensor:
    """``branch + input`` as a new tensor, in the dtype of ``branch``.

    Blocks may change this sum in place, because they have made it themselves. They never change inputs or outputs of
    modules: hooks of the user may keep these, or full backward hooks may have replaced them by views.

    Under autocast, the first block gets a float32 image and a half-precision branch; the sum has half precision, so
    that all later blocks work in it. The image is converted, not the sum, because PyTorch 2.6 cannot export an in-place
    change of a converted tensor.
    """
    return branch + input.to(branch.dtype)
