"""Find the convolutions before and after every box layer in the graph that autograd records.

The graph contains the operations that were executed, so this works for any network and does not depend on the names of
its modules. Channels are followed up to the nearest convolutions, through everything that does not mix them: BatchNorm,
activations, dropout, sums of residual branches, pooling, padding, cropping, concatenation.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from box_convolution.layer import BoxConv2d
from box_convolution.torch_internals import saved, sequence_number, shape_of_input, tree_leaves

from .evaluation_mode import evaluation_mode

Node = Any  # a node of autograd's graph, whose edges point from results towards the input


@dataclass(frozen=True)
class Convolution:
    """A convolution before or after a box layer.

    Channel k of the earlier of the two is channel ``k + offset`` of the later one. ``gammas`` are the weights of the
    BatchNorms in between, for the channels of the earlier one.
    """

    name: str
    weight: Tensor
    groups: int
    transposed: bool
    offset: int
    gammas: tuple[Tensor, ...]

    @property
    def kernel(self) -> tuple[int, int]:
        return int(self.weight.shape[2]), int(self.weight.shape[3])

    def strengths(self) -> Tensor:
        """(groups, out / groups, in / groups): largest absolute weight over the taps of each kernel."""
        largest = self.weight.detach().abs().amax((2, 3)).unflatten(0, (self.groups, -1))
        return largest.transpose(1, 2) if self.transposed else largest


@dataclass(frozen=True)
class Neighbours:
    """A box layer, the size (h, w) of its input map, and the convolutions before and after it.

    ``preceding`` are in order of execution. ``following`` is the first convolution that reads the layer's channels;
    None if there is none.
    """

    name: str
    layer: BoxConv2d
    map_size: tuple[int, int]
    preceding: tuple[Convolution, ...]
    following: Convolution | None


def find_neighbours(model: nn.Module, image: Tensor) -> list[Neighbours]:
    """Every box layer of ``model`` in the order of execution for ``image`` (B, channels, h, w).

    Of a layer that is used more than once, the first use counts. The network is not changed.
    """
    outputs: dict[BoxConv2d, Tensor] = {}
    sizes: dict[BoxConv2d, tuple[int, int]] = {}
    names = {module: name for name, module in model.named_modules() if isinstance(module, BoxConv2d)}

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, BoxConv2d) and module not in outputs:
            outputs[module] = output
            sizes[module] = (int(inputs[0].shape[2]), int(inputs[0].shape[3]))

    with ExitStack() as stack, evaluation_mode(model):
        for layer in names:
            stack.callback(layer.register_forward_hook(remember).remove)
        result = model(image.detach().clone().requires_grad_())
    graph = _Graph(model, result)
    found = []
    for layer, output in outputs.items():
        node = output.grad_fn
        if node is None:  # the output does not depend on the image by a differentiable path
            found.append(Neighbours(names[layer], layer, sizes[layer], (), None))
            continue
        before = sorted(_sources(_input(node)), key=lambda source: sequence_number(source.node))
        preceding = tuple(graph.convolution(source.node, source) for source in before if _is_convolution(source.node))
        found.append(Neighbours(names[layer], layer, sizes[layer], preceding, graph.first_reader(node)))
    return found


@dataclass(frozen=True)
class _Source:
    """A convolution or box layer from which channels come: its channel k is channel k + offset of the reader.

    norms: (weight, offset) of each BatchNorm on the path; its channel k is channel k + offset of the reader.
    """

    node: Node
    offset: int
    norms: tuple[tuple[Tensor, int], ...]


class _Graph:
    """The convolutions between the image and ``result``, a tensor or a collection of tensors."""

    def __init__(self, model: nn.Module, result: Any) -> None:
        self.names = {
            module.weight.data_ptr(): name
            for name, module in model.named_modules()
            if isinstance(getattr(module, "weight", None), Tensor)
        }
        seen: set[Node] = set()
        waiting = [leaf.grad_fn for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in seen:
                seen.add(node)
                waiting += [following for following, _ in node.next_functions]
        self.convolutions = sorted(filter(_is_convolution, seen), key=sequence_number)

    def first_reader(self, box_node: Node) -> Convolution | None:
        """The first convolution that reads the channels of a box layer."""
        for reader in self.convolutions:
            for source in _sources(_input(reader)):
                if source.node is box_node:
                    return self.convolution(reader, source)
        return None

    def convolution(self, node: Node, source: _Source) -> Convolution:
        """Describe the convolution ``node``, which is at one end of the path from ``source``."""
        gammas = tuple(gamma[source.offset - at :][: _channels((source.node, 0))] for gamma, at in source.norms)
        weight = saved(node, "weight")
        name = self.names.get(weight.data_ptr(), "a convolution without a name")
        return Convolution(name, weight, saved(node, "groups"), saved(node, "transposed"), source.offset, gammas)


def _sources(edge: tuple[Node, int]) -> Iterator[_Source]:
    """The nearest convolutions and box layers whose channels reach ``edge``, an input of a node."""
    waiting: list[tuple[tuple[Node, int], int, tuple[tuple[Tensor, int], ...]]] = [(edge, 0, ())]
    seen: set[tuple[Node, int]] = set()
    while waiting:
        edge, offset, norms = waiting.pop(0)
        node = edge[0]
        if node is None or (node, offset) in seen:
            continue
        seen.add((node, offset))
        if _is_convolution(node) or "box_conv2d" in node.name():
            yield _Source(node, offset, norms)
            continue
        if "BatchNorm" in node.name() and (gamma := saved(node, "weight")) is not None:
            norms = (*norms, (gamma.detach(), offset))
        joined = node.name().startswith("CatBackward") and _is_channel_axis(saved(node, "dim"))
        padded = _front_channels(node)
        place = offset + padded
        for source in node.next_functions:
            channels = _channels(source)
            if joined and channels is not None:
                waiting.append((source, place, norms))
                place += channels
            elif joined:
                break  # the first channel of the next inputs is not known
            elif channels is not None and (padded or _is_padding(node) or channels == _channels((node, 0))):
                waiting.append((source, place, norms))


def _input(node: Node) -> tuple[Node, int]:
    """The edge to the input of a convolution or box layer; the edges after it lead to its weights or boxes."""
    edge: tuple[Node, int] = node.next_functions[0]
    return edge


def _channels(edge: tuple[Node, int]) -> int | None:
    """Channels of the tensor (B, C, H, W) at ``edge``; None for tensors of other ranks."""
    node, index = edge
    if node is None:
        return None
    shape = shape_of_input(node, index)
    return int(shape[1]) if len(shape) == 4 else None


def _is_convolution(node: Node) -> bool:
    return node.name().startswith("ConvolutionBackward")


def _is_channel_axis(dim: int) -> bool:
    return dim in (1, 2**64 - 3, -3)  # autograd shows negative numbers as unsigned integers


def _is_padding(node: Node) -> bool:
    return bool(node.name().startswith("ConstantPad"))


def _front_channels(node: Node) -> int:
    """Number of channels that a padding adds in front: `pad` is (left, right, above, below, front, back)."""
    pad: list[int] = list(saved(node, "pad")) if _is_padding(node) else []
    return pad[4] if len(pad) > 4 else 0
