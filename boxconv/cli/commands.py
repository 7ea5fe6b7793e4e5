"""The list of commands, and how a command line is read."""

import ast
import dataclasses
import difflib
import functools
import importlib
import inspect
import operator
import textwrap
from collections.abc import Callable, Iterator
from types import MappingProxyType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

from ..errors import UsageError
from ..training import recipes
from . import train

NAMES = (
    *("train", "evaluate", "predict", "submit", "finetune", "export", "check-data", "import-sunrgbd", "compare"),
    *("cost", "bench", "analyze", "draw", "distance", "demo-app", "doctor"),
)


def _command(name: str) -> tuple[type, Callable[[Any], int | None]]:
    """Return the settings class and ``run`` of a command's file, which imports large libraries only inside ``run``."""
    run = importlib.import_module(f".{name.replace('-', '_')}", __package__).run
    return get_type_hints(run)["args"], run


SHARED = {"device": "auto: cuda if there is one, else cpu.", "quiet": "Show no progress."}
"""What --help says of settings that many commands have."""

COMMANDS = {name: _command(name) for name in NAMES}


def run(argv: list[str]) -> int:
    """Run the command that ``argv`` names, and return the exit status."""
    _check_name(argv)
    if argv[:1] == ["train"] and train.given(argv, "--recipe") == "help":
        print(recipes.listing())
        return 0
    args = parse(argv)
    if isinstance(args, train.Train) and (of_run := train.defaults_of_run(args)) is not None:
        args = parse(argv, default=of_run)
    runs = dict(COMMANDS.values())
    return runs[type(args)](args) or 0


def _check_name(argv: list[str]) -> None:
    """Raise UsageError if the first word is not a command."""
    if not argv or argv[0].startswith("-") or argv[0].replace("_", "-") in COMMANDS:
        return
    close = difflib.get_close_matches(argv[0], COMMANDS, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UsageError(f"no command {argv[0]!r}; {hint}boxconv --help explains them: {', '.join(COMMANDS)}")


def parse(argv: list[str], default: train.Train | None = None) -> Any:
    """Read the settings of the command that ``argv`` names. SystemExit, with a message, if ``argv`` is wrong.

    Settings of `boxconv train` that it leaves out come from ``default``, or else from `train.defaults`.
    """
    if "--help" in argv or "-h" in argv:
        for kind, _ in COMMANDS.values():
            _describe(kind)
    options: dict[str, Any] = {"args": argv, "config": (tyro.conf.DisallowNone,)}  # left out, not called None
    name = argv[0].replace("_", "-") if argv else ""
    if name in COMMANDS:  # by itself, so that errors name the command
        if name == "train":
            options["default"] = default or train.defaults(argv)
        return tyro.cli(COMMANDS[name][0], **options | {"prog": f"boxconv {name}", "args": argv[1:]})
    kinds: list[Any] = [Annotated[kind, tyro.conf.subcommand(name)] for name, (kind, _) in COMMANDS.items()]
    about = "Train, evaluate and use segmentation networks with box convolutions."
    return tyro.cli(functools.reduce(operator.or_, kinds), prog="boxconv", description=about, **options)


def _describe(command: type) -> None:
    """Prepare a command's settings for --help.

    Each description becomes one line, because line breaks of the source do not fit the terminal. "(default: None)" is
    removed: the description says what happens if the option is left out.
    """
    described = SHARED | dict(found for kind in reversed(command.__mro__[:-1]) for found in _descriptions(kind))
    hints = get_type_hints(command, include_extras=True)
    for field in dataclasses.fields(command):
        if field.name in described:
            field.metadata = MappingProxyType({**field.metadata, "help": described[field.name]})
        hint = tyro.conf.arg(help_behavior_hint=_default, metavar=_metavar(hints[field.name]))
        command.__annotations__[field.name] = Annotated[hints[field.name], hint]


def _metavar(kind: Any) -> str | None:
    """INT INT for two numbers that may be left out, which tyro would write as {INT INT}; None leaves it to tyro."""
    (few,) = [one for one in get_args(kind) if get_origin(one) is tuple] or [None]
    if get_origin(kind) is not UnionType or few is None or Ellipsis in get_args(few):
        return None
    return " ".join(one.__name__.upper() for one in get_args(few))


def _default(value: str) -> str:
    return "" if value in ("", "None") else f"(default: {value})"


def _descriptions(kind: type) -> Iterator[tuple[str, str]]:
    """Yield each setting of a class with the text below it."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    for setting, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(setting, ast.AnnAssign) and isinstance(setting.target, ast.Name) and isinstance(text, ast.Expr):
            yield setting.target.id, " ".join(ast.literal_eval(text.value).split())
