"""Recipes: the settings of an experiment under a name. A JSON file holds settings by their names in `TrainConfig`, and

about    what the experiment is, in a line        base    the recipe whose settings it starts from

A run's config.json is one, too.
"""

import difflib
import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import UsageError
from .config import TrainConfig, from_plain

FOLDER = Path(__file__).parents[1] / "recipes"


def settings(name: str) -> TrainConfig:
    """Read the settings of a recipe in the package, or of the file `name`. UsageError for anything wrong in it."""
    values = _read(name)
    values.pop("about", None)
    try:
        return from_plain(values)
    except ValueError as error:
        raise UsageError(f"--recipe: {name}: {error}") from error


def listing() -> str:
    """List the experiments, one per line, without recipes that name no network: others only start from them."""
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
    if isinstance(content.get("config"), dict):  # what a run leaves
        content = content["config"]
    base = content.pop("base", None)
    if not isinstance(base, (str, type(None))):
        raise UsageError(f"--recipe: {path}: base must be a text, found {base!r}")
    inherited = {} if base is None else _read(base, (*above, name))
    _check_types(path, content)
    return inherited | content


def _check_types(path: Path, content: dict[str, Any]) -> None:
    """UsageError for the first value that is not of its setting's type. Unknown names are left to `from_plain`."""
    for name, kind in get_type_hints(TrainConfig).items():
        if name in content and not _fits(content[name], kind):
            raise UsageError(f"--recipe: {path}: {name} must be {_words(kind)}, found {content[name]!r}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON is of a setting's type; tuples are lists there, and paths texts."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return value in parts
    if get_origin(kind) is tuple:
        kinds = parts[:1] * len(value) if parts[-1] is ... and isinstance(value, list) else parts
        return isinstance(value, list) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if parts:  # a union
        return any(_fits(value, part) for part in parts)
    expected: Any = {float: (int, float), Path: str}.get(kind, kind)
    return isinstance(value, expected) and isinstance(value, bool) == (kind is bool)


def _words(kind: Any) -> str:
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return " or ".join(map(json.dumps, parts))
    if get_origin(kind) is tuple:
        many = {int: "integers", float: "numbers"}[parts[0]]
        return f"a list of {many}" if parts[-1] is ... else f"a list of {len(parts)} {many}"
    if parts:
        return " or ".join(map(_words, parts))
    words = {bool: "true or false", int: "an integer", float: "a number", str: "a text", Path: "a path"}
    return words.get(kind, "null")
