"""Hooks, attributions, transforms of gradients, checkpointing."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint

from .table import ALL, FEW, Case, facility, gradients, logits, training, twin

GROUP = "Hooks and gradients"


@facility(GROUP, "full backward hooks on every module, training", in_tests=ALL)
def full_backward_hooks(case: Case) -> tuple[Any, Any]:
    other, seen = twin(case.network), set[nn.Module]()
    for module in case.network.modules():
        module.register_full_backward_pre_hook(lambda module, grads: None)
        module.register_full_backward_hook(lambda module, grads, outputs: seen.add(module))
    found = training(case.network, case.image)
    return [*found, seen == set(case.network.modules())], [*training(other, case.image), True]


def _kept_outputs(network: nn.Module, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors that forward hooks see in every module, and copies of them from the same moment."""
    kept: list[Tensor] = []
    copies: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for tensor in (*inputs, *(output if isinstance(output, tuple) else (output,))):
            kept.append(tensor.detach())
            copies.append(tensor.detach().clone())

    handles = [module.register_forward_hook(keep) for module in network.modules()]
    network(image)
    for handle in handles:
        handle.remove()
    return kept, copies


@facility(GROUP, "tensors that forward hooks store are not changed later, training and inference", in_tests=ALL)
def forward_hooks(case: Case) -> tuple[Any, Any]:
    with torch.no_grad():
        kept, copies = _kept_outputs(case.network, case.image)
    more, more_copies = _kept_outputs(case.network.train(), case.image)
    return kept + more, copies + more_copies


@facility(GROUP, "`retain_grad` on every module's output (Grad-CAM)")
def retained(case: Case) -> tuple[Any, Any]:
    other, outputs = twin(case.network), list[Tensor]()

    def retain(module: nn.Module, inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        first.retain_grad()
        outputs.append(first)

    for module in case.network.modules():
        module.register_forward_hook(retain)
    image = case.image.clone().requires_grad_()
    case.network(image).square().mean().backward()
    assert all(output.grad is not None for output in outputs)
    return image.grad, gradients(other, case.image)[1]


@facility(GROUP, "saliency, with hooks on every ReLU and PReLU that return gradients (guided backpropagation)")
def guided(case: Case) -> tuple[Any, Any]:
    expected = gradients(twin(case.network), case.image)[1]
    for module in case.network.modules():
        if isinstance(module, (nn.ReLU, nn.PReLU)):
            module.register_full_backward_hook(lambda module, grads, outputs: (grads[0].clone(), *grads[1:]))
    image = case.image.clone().requires_grad_()
    case.network(image).square().mean().backward()
    return image.grad, expected


@facility(GROUP, "integrated gradients: same result in one batch as step by step", subjects=FEW)
def integrated(case: Case) -> tuple[Any, Any]:
    path = torch.linspace(0.1, 1, 8).view(-1, 1, 1, 1) * case.image[:1]

    def slopes(images: Tensor) -> Tensor:
        images = images.clone().requires_grad_()
        return torch.autograd.grad(case.network(images).square().sum(), images)[0]

    return slopes(path).mean(0), torch.cat([slopes(step[None]) for step in path]).mean(0)


@facility(GROUP, "`torch.func.functional_call`, gradients of the given parameters")
def functional(case: Case) -> tuple[Any, Any]:
    expected = gradients(twin(case.network), case.image)
    weights = dict(case.network.named_parameters())
    given = {name: weight.detach().clone().requires_grad_(weight.requires_grad) for name, weight in weights.items()}
    output = functional_call(case.network, given, (case.image,))
    got = torch.autograd.grad(output.square().mean(), [w for w in given.values() if w.requires_grad])
    return [output, *got], [expected[0], *expected[2:]]


# The next two run on the reference. They are in float64: if a ReLU's input is nearly 0, rounding decides its gradient.


@facility(GROUP, "`torch.func.grad`", subjects=FEW)
def func_grad(case: Case) -> tuple[Any, Any]:
    network, image = case.network.double(), case.image.double()
    weights = {name: weight.detach() for name, weight in network.named_parameters()}

    def loss(given: dict[str, Tensor]) -> Tensor:
        return functional_call(network, given, (image,)).square().mean()

    return list(grad(loss)(weights).values()), gradients(network, image)[2:]


@facility(GROUP, "gradients of each image: `vmap` of `torch.func.grad`", subjects=FEW)
def per_sample(case: Case) -> tuple[Any, Any]:
    network, images = case.network.double(), case.image.double()
    weights = {name: weight.detach() for name, weight in network.named_parameters()}

    def loss(given: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(network, given, (image[None],)).square().mean()

    got = vmap(grad(loss), in_dims=(None, 0))(weights, images)
    loop = [gradients(network, image[None])[2:] for image in images]
    return list(got.values()), [torch.stack(both) for both in zip(*loop, strict=True)]


@facility(GROUP, "an ensemble: `stack_module_state` and `vmap`")
def ensemble(case: Case) -> tuple[Any, Any]:
    others = [case.network, twin(case.network)]
    with torch.no_grad():
        for weight in others[1].parameters():
            weight.mul_(1.25)
    weights, buffers = stack_module_state(others)

    def one(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return functional_call(case.network, (weights, buffers), (case.image,))

    with torch.no_grad():
        return vmap(one)(weights, buffers), torch.stack([network(case.image) for network in others])


@facility(GROUP, "`torch.func.jvp` and forward-mode differentiation", subjects=FEW)
def forward_mode(case: Case) -> tuple[Any, Any]:
    network, image = case.network.double(), case.image.double()
    along = torch.randn_like(image)
    _, got = jvp(network, (image,), (along,))
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(network(forward_ad.make_dual(image, along))).tangent
    step = 1e-7
    with torch.no_grad():
        difference = (network(image + step * along) - network(image - step * along)) / (2 * step)
    return [got, dual], [difference, difference]


@facility(GROUP, "gradients of gradients", subjects=FEW)
def twice(case: Case) -> tuple[Any, Any]:
    network, image = case.network.double(), case.image.double().requires_grad_()
    along = torch.randn_like(image)

    def slope(at: Tensor) -> Tensor:
        return torch.autograd.grad(network(at).square().mean(), at, create_graph=True)[0]

    (got,) = torch.autograd.grad((slope(image) * along).sum(), image)
    step = 1e-6
    moved = [slope((image + sign * step * along).detach().requires_grad_()) for sign in (1, -1)]
    return got, (moved[0] - moved[1]) / (2 * step)


@facility(GROUP, "`torch.utils.checkpoint`, both forms")
def checkpointed(case: Case) -> tuple[Any, Any]:
    got = []
    for reentrant in (False, True):
        network = twin(case.network)
        run = partial(checkpoint, network, use_reentrant=reentrant)
        got.append(training(network, case.image, run))
    alone = training(case.network, case.image)
    return got, [alone, alone]


@facility(GROUP, "a tensor subclass as image", subjects=FEW)
def subclass(case: Case) -> tuple[Any, Any]:
    class Image(Tensor):
        pass

    got = logits(case.network, case.image.as_subclass(Image))[0]
    return got.as_subclass(Tensor), logits(case.network, case.image)[0]
