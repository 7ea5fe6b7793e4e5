"""A list of a folder's files with their SHA-256, in the form of the program sha256sum, and checking against it."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ...files import write_atomic
from ..classes import DataError
from ..image_files import check_regular, shown


@dataclass
class Difference:
    """What became of the files of a manifest; paths are relative to the root. unreadable: message per file."""

    files: int = 0
    missing: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not (self.missing or self.changed or self.added or self.unreadable)

    def text(self, limit: int = 5) -> str:
        kinds = {
            "missing": self.missing, "changed": self.changed, "added": self.added, "unreadable": self.unreadable
        }  # fmt: skip
        lines = []
        for kind, names in kinds.items():
            if names:
                lines.append(f"{kind} since the manifest: {len(names)}")
                lines += [f"  {shown(name)}" for name in names[:limit]]
                lines += [f"  ... and {len(names) - limit} more"] if len(names) > limit else []
        return "\n".join(lines or [f"{self.files} files, all as in the manifest"])


def write_manifest(root: Path, path: Path, *, workers: int | None = None) -> int:
    """Writes the manifest of all files below `root` to `path`, and returns how many they are.

    DataError if a file cannot be read, or `path` is below `root`, where nothing is ever written.
    """
    if path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{shown(path)}: is in the data folder {shown(root)}, which is never written to")
    sums, unreadable = _sums(root, files_below(root), workers)
    if unreadable:
        raise DataError(f"{unreadable[0]}; {len(unreadable)} of {len(sums) + len(unreadable)} files cannot be read")
    content = b"".join(_line(name, digest) for name, digest in sorted(sums.items()))
    write_atomic(path, content)
    return len(sums)


def verify_manifest(root: Path, path: Path, *, workers: int | None = None) -> Difference:
    """Compares all files below `root` with the manifest `path`. DataError if it cannot be read or is none."""
    expected = _read(path)
    present = files_below(root)
    known = [name for name in present if name in expected]
    sums, unreadable = _sums(root, known, workers)
    return Difference(
        files=len(expected),
        missing=sorted(expected.keys() - set(present)),
        changed=sorted(name for name, digest in sums.items() if digest != expected[name]),
        added=sorted(set(present) - expected.keys()),
        unreadable=unreadable,
    )


def files_below(root: Path) -> list[str]:
    """Every entry below `root` that is no folder, sorted, relative to it. Links to folders are followed, once each."""
    if not root.is_dir():
        raise DataError(f"{shown(root)}: no such folder", "missing folder")
    found: list[str] = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        found += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return sorted(found)


def _sums(root: Path, names: list[str], workers: int | None) -> tuple[dict[str, str], list[str]]:
    """SHA-256 in hexadecimal digits of every file that can be read, and a message for every other one."""

    def digest(name: str) -> str | DataError:
        try:
            check_regular(root / name)
            with open(root / name, "rb") as file:
                total = hashlib.sha256()
                while block := file.read(1 << 20):
                    total.update(block)
        except DataError as error:
            return error
        except OSError as error:
            return DataError(f"{shown(root / name)}: cannot be read: {error.strerror}")
        return total.hexdigest()

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        results = list(pool.map(digest, names))
    sums = {name: result for name, result in zip(names, results, strict=True) if isinstance(result, str)}
    return sums, [str(result) for result in results if isinstance(result, DataError)]


_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"))


def _line(name: str, digest: str) -> bytes:
    """A line as sha256sum writes it: with a backslash in front where the name is escaped."""
    raw = os.fsencode(name)
    escaped = raw
    for plain, code in _ESCAPES:
        escaped = escaped.replace(plain, code)
    return (b"\\" if escaped != raw else b"") + digest.encode() + b"  " + escaped + b"\n"


def _read(path: Path) -> dict[str, str]:
    try:
        check_regular(path)
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read: {error.strerror}") from error
    return dict(_entries(path, content))


def _entries(path: Path, content: bytes) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line:
            continue
        escaped = line.startswith(b"\\")
        digest, _, raw = line[1 if escaped else 0 :].partition(b" ")
        name = raw[1:]
        if len(digest) != 64 or digest.strip(b"0123456789abcdef") or not name or raw[:1] not in (b" ", b"*"):
            raise DataError(f"{shown(path)}, line {number}: expected a SHA-256, two blanks and a file name")
        if escaped:
            name = b"\\".join(part.replace(b"\\n", b"\n").replace(b"\\r", b"\r") for part in name.split(b"\\\\"))
        yield os.fsdecode(name), digest.decode()
