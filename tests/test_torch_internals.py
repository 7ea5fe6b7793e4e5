"""Private names of PyTorch: all in one file, all present in this release, and what happens if one is missing."""

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import grad, jvp

import box_convolution
import boxconv
from box_convolution import box_conv2d, networks, torch_internals
from boxconv.analysis.box_neighbours import find_neighbours

PACKAGES = [Path(package.__file__).parent for package in (box_convolution, boxconv)]
HOME = PACKAGES[0] / "torch_internals.py"
IMAGE, BOXES = torch.randn(1, 2, 5, 7), torch.tensor([-1.5, 1.2, -0.7, 2.0]).expand(2, 1, 4).clone()


def test_this_release_has_them_all() -> None:
    assert torch_internals.missing() == [], "PyTorch renamed these: see box_convolution/torch_internals.py"
    assert torch_internals.nothing_intervenes((IMAGE, BOXES))


def private_names(tree: ast.Module) -> set[str]:
    """Private names of PyTorch in a file: attributes, parts of module names, and strings."""
    found = set()
    ours = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            if any(name.split(".")[0] == "torch" for name in names):
                found |= {part for name in names for part in name.split(".") if part.startswith("_")}
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if ast.unparse(node.value).split(".")[0] == "torch":
                found.add(ast.unparse(node))
            elif node.attr in PRIVATE_OF_OBJECTS and node.attr not in ours:
                found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("aten::_"):
            found.add(node.value)
    return found


PRIVATE_OF_OBJECTS = {
    name
    for kind in (torch.Tensor, nn.Module(), torch.optim.Optimizer, torch.ops.aten.add.default, torch.library.Library)
    for name in dir(kind)
    if name.startswith("_") and not name.startswith("__")
} | {"_current_level", "_input_metadata", "_sequence_nr", "_saved_weight", "_saved_dim", "_saved_pad", "_saved_groups"}


FILES = [path for package in PACKAGES for path in sorted(package.rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGES[0].parent)))
def test_they_are_used_in_one_file(path: Path) -> None:
    names = private_names(ast.parse(path.read_text()))
    assert (path == HOME) == bool(names), names


def test_calls_of_the_operator_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any of the private names, every kind of differentiation gives the same results."""

    def loss(image: torch.Tensor) -> torch.Tensor:
        return box_conv2d(image, BOXES).square().sum()

    expected = box_conv2d(IMAGE, BOXES), grad(loss)(IMAGE), jvp(loss, (IMAGE,), (IMAGE,))[1]
    monkeypatch.delattr(torch._C, "_are_functorch_transforms_active")
    with pytest.raises(AttributeError):
        torch._C._are_functorch_transforms_active()
    assert not torch_internals.in_a_transform()
    monkeypatch.undo()

    def gone(*_: Any) -> Any:
        raise AssertionError("a private name was used")

    for name in ("in_a_transform", "has_hooks", "saved", "sequence_number", "shape_of_input"):
        monkeypatch.setattr(torch_internals, name, gone)
    monkeypatch.setattr("box_convolution.ops.box_operator.in_a_transform", gone)
    monkeypatch.setattr("box_convolution.ops.dispatch.in_a_transform", gone)
    actual = box_conv2d(IMAGE, BOXES), grad(loss)(IMAGE), jvp(loss, (IMAGE,), (IMAGE,))[1]
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_without_a_level_of_forward_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not torch_internals.in_a_transform()
    with forward_ad.dual_level():
        assert torch_internals.in_a_transform()
        monkeypatch.setattr(torch_internals, "forward_ad", SimpleNamespace())
        assert not torch_internals.in_a_transform()


def test_a_graph_that_cannot_be_read_is_an_error_not_a_network_without_convolutions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = networks.create("boxenet", 3, (32, 32))
    image = torch.rand(1, 3, 32, 32)
    assert all(found.following is not None for found in find_neighbours(network, image))
    monkeypatch.setattr("boxconv.analysis.box_neighbours.saved", lambda node, name: torch_internals.saved(node, "x"))
    with pytest.raises(torch_internals.GraphError, match=r"torch .* does not show _saved_x of .*Backward"):
        find_neighbours(network, image)


def test_a_module_of_unknown_hooks_is_left_alone() -> None:
    module: Any = nn.ReLU()
    assert not torch_internals.has_hooks(module)
    assert torch_internals.has_hooks(SimpleNamespace())  # type: ignore[arg-type]
    module.register_forward_hook(lambda *_: None)
    assert torch_internals.has_hooks(module)
