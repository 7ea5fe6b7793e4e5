"""Global switches of torch that users turn on: the network must compute the same as without them."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from box_convolution import networks

from .table import ALL, FEW, Case, case, facility, logits, training, twin

GROUP = "Global switches"


@contextmanager
def _set(setter: Callable[[Any], Any], value: Any, back: Any) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(back)


def _deterministic() -> AbstractContextManager[None]:
    stack = ExitStack()
    stack.enter_context(_set(torch.use_deterministic_algorithms, True, False))
    fill = torch.utils.deterministic.fill_uninitialized_memory
    stack.enter_context(
        _set(lambda on: setattr(torch.utils.deterministic, "fill_uninitialized_memory", on), True, fill)
    )
    return stack


def _warn_only() -> AbstractContextManager[None]:
    stack = ExitStack()
    stack.enter_context(_set(lambda on: torch.use_deterministic_algorithms(on, warn_only=True), True, False))
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("error")
    return stack


def _warn_always() -> AbstractContextManager[None]:
    stack = ExitStack()
    stack.enter_context(_set(torch.set_warn_always, True, False))
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("error")
    return stack


SWITCHES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "`use_deterministic_algorithms(True)`, new memory filled": _deterministic,
    "`use_deterministic_algorithms(True, warn_only=True)`, no warning": _warn_only,
    "`set_deterministic_debug_mode('error')`": lambda: _set(torch.set_deterministic_debug_mode, "error", "default"),
    "`set_warn_always(True)`, no warning": _warn_always,
    "`autograd.set_detect_anomaly(True)`": lambda: torch.autograd.set_detect_anomaly(True),
    "`autograd.set_multithreading_enabled(False)`": lambda: torch.autograd.set_multithreading_enabled(False),
    "`autograd.graph.save_on_cpu()`": lambda: torch.autograd.graph.save_on_cpu(),
    "`autograd.graph.saved_tensors_hooks`": lambda: torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: tensor.numpy(force=True).copy(), torch.from_numpy
    ),
    "`autograd.graph.allow_mutation_on_saved_tensors()`": lambda: (
        torch.autograd.graph.allow_mutation_on_saved_tensors()
    ),
    "`set_float32_matmul_precision('high')`": lambda: _set(torch.set_float32_matmul_precision, "high", "highest"),
    "`set_flush_denormal(True)`": lambda: _set(torch.set_flush_denormal, True, False),
    "`set_default_device('cpu')`": lambda: torch.device("cpu"),
    "`compiler.set_stance('force_eager')`": lambda: torch.compiler.set_stance("force_eager"),
    "`__future__.set_overwrite_module_params_on_conversion`": lambda: _set(
        torch.__future__.set_overwrite_module_params_on_conversion, True, False
    ),
    "`__future__.set_swap_module_params_on_conversion`": lambda: _set(
        torch.__future__.set_swap_module_params_on_conversion, True, False
    ),
}


def _under(switch: Callable[[], AbstractContextManager[Any]], dtype: torch.dtype) -> Callable[[Case], tuple[Any, Any]]:
    def use(given: Case) -> tuple[Any, Any]:
        """Under the switch, create a network, convert it to float64 and to ``dtype``, and train one step."""
        with switch():
            there = case(given.name)
            got = training(there.network.double().to(dtype), there.image.to(dtype))
        return got, training(given.network.to(dtype), given.image.to(dtype))

    return use


for name, switch in SWITCHES.items():
    # What those hooks give back lies elsewhere in memory, where PyTorch's float32 convolutions round differently.
    dtype = torch.float64 if "saved_tensors_hooks" in name else torch.float32
    facility(GROUP, name, in_tests=ALL if switch is _deterministic else FEW)(_under(switch, dtype))


@facility(GROUP, "`backends.mkldnn` off")
def without_mkldnn(given: Case) -> tuple[Any, Any]:
    """Gradients in float64: in float32, rounding decides which of two nearly equal pixels pooling selects."""
    network, image = given.network, given.image
    expected = [*logits(network, image), *training(twin(network).double(), image.double())]
    with torch.backends.mkldnn.flags(enabled=False):
        return [*logits(network, image), *training(twin(network).double(), image.double())], expected


@facility(GROUP, "`inference_mode`, network made inside or outside")
def inference(given: Case) -> tuple[Any, Any]:
    with torch.inference_mode():
        inside = case(given.name).network
        got = [network(image).clone() for network in (inside, given.network) for image in (given.image, given.other)]
    return [tensor.clone() for tensor in got], logits(given.network, given.image, given.other) * 2


@facility(GROUP, "`set_default_dtype(float64)`: same result as a network moved to float64")
def default_dtype(given: Case) -> tuple[Any, Any]:
    with _set(torch.set_default_dtype, torch.float64, torch.float32):
        made = case(given.name).network
    state = given.network.double().state_dict()
    made.load_state_dict(state)
    image = given.image.double()
    return training(made, image), training(given.network, image)


@facility(GROUP, "`set_default_dtype(bfloat16)`: made and trained", subjects=FEW)
def default_bfloat16(given: Case) -> tuple[Any, Any]:
    with _set(torch.set_default_dtype, torch.bfloat16, torch.float32):
        made = case(given.name).network
        got = training(made, given.image.bfloat16())
    return [(t.dtype, bool(t.isfinite().all())) == (torch.bfloat16, True) for t in got], [True] * len(got)


@facility(GROUP, "`torch.device('meta')`: made and run without memory, then given weights")
def meta(given: Case) -> tuple[Any, Any]:
    with torch.device("meta"):
        made = case(given.name).network
        shape = made(torch.rand(2, 3, 41, 50)).shape
    expected = given.network(torch.rand(2, 3, 41, 50)).shape
    made = made.to_empty(device="cpu")
    made.load_state_dict(given.network.state_dict())
    return [list(shape), *logits(made, given.image)], [list(expected), *logits(given.network, given.image)]


# Not ENet and ERFNet, which have layers of PyTorch alone: on maps of 4 x 4 pixels, dilated ones lose more by rounding.
WITHOUT_DILATIONS = tuple(name for name in networks.names() if name not in ("enet", "erfnet"))


@facility(GROUP, "autocast to bfloat16, training", subjects=WITHOUT_DILATIONS)
def autocast(given: Case) -> tuple[Any, Any]:
    def run(image: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return given.network(image).float()

    other = twin(given.network)
    got, alone = training(given.network, given.image, run), training(other, given.image)
    near = torch.nn.functional.cosine_similarity(got[0].flatten(), alone[0].flatten(), dim=0) > 0.95
    good = (g.dtype == a.dtype and bool(g.isfinite().all()) for g, a in zip(got, alone, strict=True))
    return [bool(near), *good], [True] * (len(got) + 1)
