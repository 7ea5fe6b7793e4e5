"""Packages beyond PyTorch that parts of box-convolution need: which are missing, and the command that installs them.

Their names and lowest versions are listed only in pyproject.toml; they are read from the metadata that pip installed.
"""

import re
from collections.abc import Iterator
from importlib import metadata, util
from typing import NamedTuple

_MODULES = {"pillow": "PIL", "imageio-ffmpeg": "imageio_ffmpeg"}  # where the module has another name
_DEVELOPMENT = "dev"


class MissingPackageError(ImportError):
    """A package of an optional part is missing; the message says how to install it."""


class Requirement(NamedTuple):
    """A package with its lowest version, and the extra of pyproject.toml that lists it ("" for the layer itself)."""

    name: str
    lowest: str
    extra: str

    @property
    def module(self) -> str:
        return _MODULES.get(self.name, self.name)

    def found(self) -> str | None:
        """Return the version that is installed, if any."""
        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return None

    def satisfied(self) -> bool:
        found = self.found()
        return found is not None and _numbers(found) >= _numbers(self.lowest)


def require(purpose: str, *modules: str) -> None:
    """Raise MissingPackageError unless all ``modules`` can be imported; ``purpose`` is the message's subject."""
    missing = [name for name in modules if util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(f"{purpose} needs {_sentence(missing)}")


def explain(error: ImportError) -> str | None:
    """Say what to install if an import failed because a package of an extra is missing; None for any other failure."""
    if isinstance(error, MissingPackageError):
        return str(error)
    module = (error.name or "").partition(".")[0]
    extra = next((found.extra for found in requirements() if found.module == module), None)
    if extra is None or util.find_spec(module) is not None:
        return None
    missing = [found.module for found in requirements(extra) if util.find_spec(found.module) is None]
    return f"this needs {_sentence(missing)}"


def requirements(extra: str | None = None) -> Iterator[Requirement]:
    """Yield the declared requirements: those of one extra, or without ``extra`` all except those for development."""
    try:
        declared = metadata.requires("box_convolution") or []
    except metadata.PackageNotFoundError:  # used from a folder, without pip
        return
    for text in declared:
        found = re.match(r"([\w.-]+)[^;]*?(?:>=\s*([\w.]+))?\s*(?:;|$)", text)
        of = re.search(r"extra\s*==\s*['\"](\w+)['\"]", text)
        if found is not None:
            name = of[1] if of else ""
            if name == extra or (extra is None and name != _DEVELOPMENT):
                yield Requirement(found[1].lower(), found[2] or "", name)


def install(packages: list[Requirement]) -> str:
    """Return the command that installs ``packages`` by name (box-convolution itself may be installed from a file)."""
    return "pip install " + " ".join(f"'{p.name}>={p.lowest}'" if p.lowest else p.name for p in packages)


def _sentence(modules: list[str]) -> str:
    known = {found.module: found for found in requirements()}
    packages = [known.get(module, Requirement(module.lower(), "", "")) for module in modules]
    names = " and ".join(", ".join(package.name for package in packages).rsplit(", ", 1))
    return f"{names}, not installed: {install(packages)}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", re.match(r"[\d.]*", version)[0])))  # type: ignore[index]
