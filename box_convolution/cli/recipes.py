"""Recipes: the settings of an experiment under a name. A JSON file holds settings by their names in `TrainConfig`, and

about    what the experiment is, in a line        base    the recipe whose settings it starts from
"""

import dataclasses
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..segmentation.config import TrainConfig, UsageError, from_plain

FOLDER = Path(__file__).parents[1] / "recipes"


def chosen(argv: Sequence[str]) -> str | None:
    """The recipe that a command line asks for: the value of the last --recipe."""
    name = None
    for word, following in zip(argv, [*argv[1:], None], strict=True):
        if word == "--recipe":
            name = following
        elif word.startswith("--recipe="):
            name = word.removeprefix("--recipe=")
    return name


def settings(name: str) -> TrainConfig:
    """The settings of a recipe that comes with the package, or of the file `name`. UsageError for anything amiss."""
    values = _read(name)
    values.pop("about", None)
    try:
        return from_plain(values)
    except ValueError as error:
        raise UsageError(f"--recipe: {name}: {error}") from error


def listing() -> str:
    """The experiments there are, one a line. Recipes that name no network are for others to start from."""
    rows = [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(FOLDER.glob("*.json"))]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {content['about']}" for name, content in rows if "network" in content)


def _read(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The content of a recipe on top of that of its base."""
    packaged = FOLDER / f"{name}.json"
    path = packaged if packaged.parent == FOLDER and packaged.is_file() else Path(name)
    if path in map(Path, above) or name in above:
        raise UsageError(f"--recipe: {name}: is its own base")
    if not path.is_file():
        names = sorted(file.stem for file in FOLDER.glob("*.json"))
        close = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"--recipe: neither a recipe nor a file: {name!r}; {hint}--recipe help lists all")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--recipe: {path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"--recipe: {path}: expected an object of settings, found {type(content).__name__}")
    base = content.pop("base", None)
    inherited = _read(base, (*above, name)) if isinstance(base, str) else {}
    _check_types(path, content)
    return inherited | content


def _check_types(path: Path, content: dict[str, Any]) -> None:
    for field in dataclasses.fields(TrainConfig):
        default = field.default
        if field.name not in content or default is None:
            continue
        value = content[field.name]
        if isinstance(default, tuple) and isinstance(value, list):
            continue
        expected = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(value, expected) or isinstance(value, bool) != isinstance(default, bool):
            what = {bool: "true or false", int: "an integer", float: "a number", str: "a text", tuple: "a list"}
            raise UsageError(f"--recipe: {path}: {field.name} must be {what[type(default)]}, found {value!r}")
