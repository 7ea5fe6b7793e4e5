"""Imports point in one direction, and importing the library imports torch and nothing else."""

import ast
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import box_convolution
import boxconv

LIBRARY, APPLICATION = (Path(package.__file__).parent for package in (box_convolution, boxconv))
ROOT = LIBRARY.parent

# The other parts of the library that each part may import.
WITHIN_LIBRARY = {
    "argument_checks": set(),
    "torch_internals": set(),
    "ops": {"torch_internals", "boxes"},
    "boxes": set(),
    "functional": {"ops", "argument_checks"},
    "state_dicts": {"boxes"},
    "extras": set(),
    "drawing": {"argument_checks"},
    "sharded": set(),
    "project_after_step": {"sharded", "argument_checks"},
    "layer": {
        "functional", "boxes", "ops", "state_dicts", "project_after_step", "sharded", "argument_checks", "extras",
        "drawing", "torch_internals",
    },
    "convert": {"layer", "argument_checks", "torch_internals"},
    "networks": {"layer", "boxes", "ops", "argument_checks", "extras"},
    "deploy": {"networks", "layer", "ops", "argument_checks", "torch_internals", "extras"},
    "__init__": {"functional", "layer", "networks", "ops", "project_after_step"},
}  # fmt: skip
TYPES = {("project_after_step", "layer", "BoxConv2d")}  # which only the type checker reads
WITHIN_OPS = {
    "epilogue": set(),
    "tensor_checks": {"epilogue"},
    "reference": {"epilogue"},
    "build_record": set(),
    "cpu_library": {"build_record"},
    "native": {"cpu_library", "tensor_checks", "epilogue"},
    "native_layers": {"native", "cpu_library"},
    "triton": {"tensor_checks", "epilogue"},
    "dispatch": {"reference", "native", "cpu_library", "triton", "epilogue"},
    "box_operator": {"dispatch", "reference", "tensor_checks"},
    "given_memory": {"box_operator", "dispatch", "native", "triton", "tensor_checks"},
    "fused": {"box_operator", "dispatch", "tensor_checks", "epilogue"},
    "deployed_layers": {"dispatch", "native", "native_layers", "tensor_checks", "epilogue"},
    "prelu": {"box_operator", "dispatch", "native_layers", "reference"},
    "projected_boxes": {"dispatch", "triton"},
    "__init__": {"dispatch", "fused", "deployed_layers"},
}
WITHIN_TRITON = {
    "spans": set(),
    "rows": set(),
    "forward": {"rows", "spans"},
    "backward": {"rows", "spans"},
    "shifts": {"rows"},
    "short_forward": {"forward", "rows", "shifts"},
    "short_backward": {"backward", "rows", "shifts", "spans"},
    "projected_boxes": set(),
    "prepared": set(),
    "channels_last": set(),
    "work_plan": set(),
    "launch": {"work_plan", "prepared"},  # which imports the kernels when they are first called
    "__init__": set(),
}

# The same for the application; then the parts of the library that each part of it may import.
WITHIN_APPLICATION = {
    "bootstrap": set(),
    "errors": set(),
    "progress_bar": set(),
    "score_names": set(),
    "files": {"errors"},
    "data": {"errors", "files", "progress_bar"},
    "training": {"bootstrap", "data", "errors", "files", "progress_bar", "score_names"},
    "inference": {"training", "data", "errors", "files", "progress_bar"},
    "reports": {"data", "errors", "files", "score_names"},
    "analysis": {"bootstrap", "reports", "data", "errors", "files", "progress_bar"},
    "profiling": {"reports", "data", "errors"},
    "app": {"analysis", "inference", "training", "data", "errors"},
    "cli": {
        "app", "inference", "training", "analysis", "profiling", "reports", "data", "errors", "files", "progress_bar",
    },
    "__main__": {"cli"},
    "__init__": {"inference"},  # when a network is opened
}  # fmt: skip
OF_THE_LIBRARY = {
    "data": {"extras"},
    "training": {"layer"},  # and never networks: it is given one
    "inference": {"networks", "deploy", "argument_checks"},
    "reports": {"drawing"},
    "analysis": {"layer", "boxes", "drawing", "torch_internals"},
    "profiling": {"networks", "deploy", "layer", "torch_internals", "BoxConv2d", "__version__"},
    "cli": {"networks", "deploy", "layer", "ops", "drawing", "extras"},
}


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """Imports of a file from both packages, such as ("box_convolution", "ops") or ("boxconv", "files", "sweep")."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            names = [[*base, *(node.module.split(".") if node.module else []), alias.name] for alias in node.names]
        else:
            continue
        yield from (tuple(name) for name in names if name[0] in ("box_convolution", "boxconv"))


def files(*folders: Path) -> pytest.MarkDecorator:
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return pytest.mark.parametrize("path", paths, ids=[path.relative_to(ROOT).as_posix() for path in paths])


def part_of(path: Path, package: Path) -> str:
    return path.relative_to(package).parts[0].removesuffix(".py")


@files(LIBRARY)
def test_in_the_library(path: Path) -> None:
    part = part_of(path, LIBRARY)
    for package, *target in imported(path):
        assert package == "box_convolution", "the library knows nothing of the application"
        allowed = target[0] in WITHIN_LIBRARY[part] | {part} or (part, *target) in TYPES
        assert allowed, f"{path.name} imports {'.'.join(target)}"


@files(LIBRARY / "ops")
def test_in_the_operator(path: Path) -> None:
    part = part_of(path, LIBRARY / "ops")
    for _, *target in imported(path):
        if target[0] == "ops":
            assert target[1] in WITHIN_OPS[part] | {part}, f"{path.name} imports {'.'.join(target)}"
        if target[:2] == ["ops", "triton"] and part == "triton":
            assert target[2] in WITHIN_TRITON[path.stem], f"{path.name} imports {'.'.join(target)}"


@files(APPLICATION)
def test_in_the_application(path: Path) -> None:
    part = part_of(path, APPLICATION)
    for package, *target in imported(path):
        allowed = WITHIN_APPLICATION[part] | {part} if package == "boxconv" else OF_THE_LIBRARY.get(part, set())
        assert target[0] in allowed, f"{path.name} imports {package}.{'.'.join(target)}"


def test_the_reader_of_imports_sees_them() -> None:
    assert ("box_convolution", "ops", "dispatch", "serving") in set(imported(LIBRARY / "ops" / "fused.py"))
    assert ("box_convolution", "networks") in set(imported(APPLICATION / "inference" / "new_network.py"))
    assert ("boxconv", "training", "config", "TrainConfig") in set(imported(APPLICATION / "cli" / "train.py"))


@files(*(ROOT / folder for folder in ("benchmarks", "docs", "examples")))
def test_scripts_import_names_that_exist(path: Path) -> None:
    """The type checker does not read them, and tests run only some."""
    for name in imported(path):
        pkgutil.resolve_name(".".join(name))


def loaded_by(statement: str, before: str = "import sys") -> set[str]:
    """The packages that ``statement`` loads in a new interpreter, in addition to those of ``before``."""
    program = (
        f"{before}\nknown = set(sys.modules)\n{statement}\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - known})"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_the_library_costs_torch_and_nothing_more() -> None:
    # Formulas of operators go to the counter of FLOPs, which imports Triton for its own ends where that is there.
    added = loaded_by("import box_convolution", "import sys, torch, torch.utils.flop_counter")
    assert added - sys.stdlib_module_names - {"torch"} == {"box_convolution"}


def test_importing_the_application_costs_nothing() -> None:
    assert loaded_by("import boxconv") - sys.stdlib_module_names == {"boxconv"}
