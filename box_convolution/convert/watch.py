"""Run a network once and record, for some of its modules, the sizes of their maps and their multiply-adds."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakTensorKeyDictionary

from ..torch_internals import TorchDispatchMode, tree_leaves


@dataclass
class Seen:
    """What was recorded of one module: largest input (h, w), last output (h, w), channels and device of the input.

    channels: 0 if the module was not called.
    enlarged: whether the output was interpolated to the size of the input again, directly or after other operations.
    """

    input: tuple[int, int] = (0, 0)
    output: tuple[int, int] = (0, 0)
    channels: int = 0
    device: torch.device | None = None
    multiply_adds: int = 0
    enlarged: bool = False


@dataclass(frozen=True)
class Run:
    """What was recorded of the modules, by name; shapes of all outputs of the network, and its multiply-adds."""

    modules: dict[str, Seen]
    outputs: list[list[int]]
    multiply_adds: int


def watch(network: nn.Module, modules: dict[str, nn.Module], image: Tensor, state: str = "") -> Run:
    """Run ``network`` in evaluation mode, and record what happens in ``modules``, which are parts of it.

    Raises ValueError if the network does not run; the message says in which ``state`` it is.
    """
    seen = {name: Seen() for name in modules}
    training = {module: module.training for module in network.modules()}
    counter, enlarged = FlopCounterMode(display=False), _Enlarged()

    def enter(one: Seen) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            one.multiply_adds -= counter.get_total_flops() // 2

        return hook

    def leave(name: str, one: Seen) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            input = next(iter((*args, *kwargs.values())))
            one.multiply_adds += counter.get_total_flops() // 2
            one.channels, one.device = input.shape[-3], input.device
            one.input = max(one.input[0], input.shape[-2]), max(one.input[1], input.shape[-1])
            one.output = output.shape[-2], output.shape[-1]
            enlarged.follow(name, input, output)

        return hook

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(enter(seen[name])).remove)
            stack.callback(module.register_forward_hook(leave(name, seen[name]), with_kwargs=True).remove)
        try:
            with counter, enlarged:
                output = network.eval()(image)
        except Exception as error:  # the user's own code runs here, and may raise anything
            where = " ".join(filter(None, (state, f"on an image of shape {list(image.shape)}")))
            raise ValueError(f"network does not run {where}: {error}") from error
        finally:
            for module, mode in training.items():
                module.training = mode
    for name in enlarged.names:
        seen[name].enlarged = True
    outputs = [list(leaf.shape) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    return Run(seen, outputs, counter.get_total_flops() // 2)


class _Enlarged(TorchDispatchMode):
    """Finds the modules whose output is interpolated to the size of their input."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        # Of tensors that were computed from a module's output and have its size: {name: size of its output and input}.
        self._origins: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def follow(self, name: str, input: Tensor, output: Tensor) -> None:
        self._origins[output] = {name: (output.shape[-2:], input.shape[-2:])}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        origins = {}
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                origins.update(self._origins.get(leaf, {}))
        for leaf in tree_leaves(output) if origins else ():
            if isinstance(leaf, Tensor):
                if func.name().startswith("aten::upsample_"):
                    self.names |= {name for name, (_, large) in origins.items() if leaf.shape[-2:] == large}
                self._origins[leaf] = {name: at for name, at in origins.items() if leaf.shape[-2:] == at[0]}
        return output
