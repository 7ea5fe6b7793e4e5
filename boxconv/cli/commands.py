"""The list of commands, and how a command line is read."""

import ast
import dataclasses
import functools
import inspect
import operator
import textwrap
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Annotated, Any

import tyro

from . import (
    analyze,
    bench,
    check_data,
    compare,
    cost,
    distance,
    doctor,
    draw,
    evaluate,
    export,
    finetune,
    import_sunrgbd,
    predict,
    recipes,
    submit,
    train,
)

# What each command's settings are, and what runs it. Modules import PyTorch and other large libraries only in ``run``.
COMMANDS: dict[str, tuple[type, Callable[[Any], int | None]]] = {
    "train": (train.Train, train.run),
    "evaluate": (evaluate.Evaluate, evaluate.run),
    "predict": (predict.Predict, predict.run),
    "submit": (submit.Submit, submit.run),
    "finetune": (finetune.Finetune, finetune.run),
    "export": (export.Export, export.run),
    "check-data": (check_data.CheckData, check_data.run),
    "import-sunrgbd": (import_sunrgbd.ImportSunRgbd, import_sunrgbd.run),
    "compare": (compare.Compare, compare.run),
    "cost": (cost.CostOf, cost.run),
    "bench": (bench.Bench, bench.run),
    "analyze": (analyze.Analyze, analyze.run),
    "draw": (draw.Draw, draw.run),
    "distance": (distance.Distance, distance.run),
    "doctor": (doctor.Doctor, doctor.run),
}


def run(argv: list[str]) -> int:
    """Run the command that ``argv`` names; returns the exit status."""
    recipe = recipes.chosen(argv) if argv[:1] == ["train"] else None
    if recipe == "help":
        print(recipes.listing())
        return 0
    args = parse(argv, recipe)
    runs = dict(COMMANDS.values())
    return runs[type(args)](args) or 0


def parse(argv: list[str], recipe: str | None = None) -> Any:
    """The settings of the command that ``argv`` names. SystemExit, with a message, for what none takes."""
    if "--help" in argv or "-h" in argv:
        for kind, _ in COMMANDS.values():
            _unbreak(kind)
    defaults: dict[str, Any] = {"train": {"default": train.defaults(recipe)}}
    kinds: list[Any] = [
        Annotated[kind, tyro.conf.subcommand(name, **defaults.get(name, {}))] for name, (kind, _) in COMMANDS.items()
    ]
    return tyro.cli(
        functools.reduce(operator.or_, kinds),
        prog="boxconv",
        description="Train, evaluate and use segmentation networks with box convolutions.",
        args=argv,
        config=(tyro.conf.DisallowNone,),  # what may be left out is left out, not called None
    )


def _unbreak(command: type) -> None:
    """Give the settings' descriptions to tyro as one line each: line breaks of the source are none of the terminal."""
    described = dict(found for kind in reversed(command.__mro__[:-1]) for found in _descriptions(kind))
    for field in dataclasses.fields(command):
        if field.name in described:
            field.metadata = MappingProxyType({**field.metadata, "help": described[field.name]})


def _descriptions(kind: type) -> Iterator[tuple[str, str]]:
    """The text below each setting of a class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    for setting, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(setting, ast.AnnAssign) and isinstance(setting.target, ast.Name) and isinstance(text, ast.Expr):
            yield setting.target.id, " ".join(ast.literal_eval(text.value).split())
