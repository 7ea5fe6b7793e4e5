"""Imports point one way, and importing the package costs torch and nothing more."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import box_convolution

ROOT = Path(box_convolution.__file__).parent

# What each part of the package may import from the rest of it, besides itself.
ALLOWED = {
    "arguments": set(),
    "torch_internals": set(),
    "ops": {"torch_internals"},
    "boxes": set(),
    "functional": {"ops", "arguments"},
    "state_dicts": {"boxes"},
    "extras": set(),
    "sharded": set(),
    "projection": {"sharded"},
    "layer": {"functional", "boxes", "state_dicts", "projection", "sharded", "arguments", "extras", "torch_internals"},
    "networks": {"layer", "boxes", "arguments", "extras"},
    "deploy": {"networks", "layer", "arguments", "boxes", "ops", "torch_internals", "extras"},
    "segmentation": {"layer", "functional", "boxes", "extras"},
    "analysis": {"arguments", "layer", "functional", "boxes", "ops", "torch_internals", "extras"},
    "cli": {"segmentation", "networks", "deploy", "analysis", "layer", "ops", "extras"},
    "after_torch": set(),
    "__main__": {"cli"},
    "__init__": {"after_torch", "functional", "layer", "networks", "ops", "projection"},
}
# Beside these: a method that hands its numbers to a module which knows nothing of the rest of the package.
LEAVES = {("layer", "analysis", "box_picture")}
TYPES = {("projection", "layer", "BoxConv2d")}  # which only the type checker reads
WITHIN_OPS = {
    "checks": set(),
    "reference": set(),
    "build_record": set(),
    "cpu": {"build_record", "checks"},
    "gpu": {"checks"},
    "triton_tables": set(),
    "triton_forward": {"triton_tables"},
    "triton_backward": {"triton_tables"},
    "dispatch": {"reference", "cpu", "gpu", "checks"},
    "fused": {"dispatch", "checks"},
    "__init__": {"dispatch", "fused"},
}


def imported(path):
    """Modules of the package that a file imports, relative to it: ("ops", "dispatch"), ("networks",) ..."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            start = (["box_convolution"] if node.level else []) + base + (node.module.split(".") if node.module else [])
            names = [[*start, alias.name] for alias in node.names]
        else:
            continue
        yield from (tuple(name[1:]) for name in names if name[0] == "box_convolution" and len(name) > 1)


FILES = sorted(path for path in ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for target in imported(path):
        if (ROOT / target[0]).exists() or (ROOT / f"{target[0]}.py").exists():
            known = target[0] == part or target[0] in ALLOWED[part] or (part, *target[:2]) in LEAVES | TYPES
            assert known, f"{path.name} imports {'.'.join(target)}"
        if part == target[0] == "ops" and len(target) > 1:
            assert target[1] in WITHIN_OPS[path.stem], f"ops/{path.name} imports ops.{target[1]}"


def test_leaves_know_nothing_of_the_rest():
    for _, *module in LEAVES:
        targets = {target[:2] for target in imported(ROOT.joinpath(*module).with_suffix(".py"))}
        assert targets == {("analysis", "canvas"), ("arguments", "as_int")}
    assert not set(imported(ROOT / "analysis" / "canvas.py"))


def test_the_reader_of_imports_sees_them():
    assert ("ops", "dispatch") in set(imported(ROOT / "functional.py"))
    assert ("segmentation", "config", "TrainConfig") in set(imported(ROOT / "cli" / "train.py"))


def test_importing_costs_torch_and_nothing_more():
    program = (
        # Formulas of operators go to the counter of FLOPs, which imports Triton for its own ends where that is there.
        "import sys, torch, torch.utils.flop_counter; before = set(sys.modules); import box_convolution; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    added = set(result.stdout.split())
    assert not added & {"PIL", "matplotlib", "tyro", "tqdm", "tensorboard", "yaml", "triton", "cv2"}, added


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_readme_explains_every_file(path):
    readme = Path(__file__).parents[1] / "README.md"
    if path.name != "__init__.py":
        assert path.name in readme.read_text()
