"""Files that pretend to be checkpoints: they contain code, claim huge memory, or belong to other programs.

Zip files get a valid checksum, as an attacker would add it, so that they are not refused for the checksum alone.
"""

import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from boxconv.training.checkpoint_integrity import sealed

CODE_RAN = "HOSTILE_CODE_MADE_THIS_FOLDER"
"""Environment variable with the path of a folder, which the code in these files creates when it runs."""


class Call:
    """Unpickling it calls ``function``."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class State:
    """Unpickling it calls ``__setstate__``."""

    def __init__(self, state: object) -> None:
        self.state = state

    def __reduce__(self):
        return State, (None,), self.state

    def __setstate__(self, state: object) -> None:
        os.mkdir(os.environ[CODE_RAN])


class Listed(list):
    """Unpickling it passes its elements to a method."""

    def __reduce__(self):
        return Listed, (), None, iter([1])

    def append(self, item: object) -> None:
        os.mkdir(os.environ[CODE_RAN])

    extend = append


def archive(entries: dict[str, bytes] | list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in entries.items() if isinstance(entries, dict) else entries:
            file.writestr(name, data)
    return sealed(buffer.getvalue())


def with_pickle(pickled: bytes, **others: bytes) -> bytes:
    return archive({"archive/data.pkl": pickled, "archive/version": b"3\n", "archive/byteorder": b"little"} | {
        f"archive/data/{name}": data for name, data in others.items()
    })  # fmt: skip


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return sealed(buffer.getvalue())


def tensor_pickle(storage_items: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """data.pkl of {"format": 1, "model": {"w": tensor}}; the arguments are those of a float32 view of storage 0."""

    def whole(number: int) -> bytes:
        return b"\x8a\x08" + struct.pack("<q", number)  # LONG1

    def tuple_of(numbers: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(whole, numbers)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + whole(storage_items) + b"tQ"
    )
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + whole(offset) + tuple_of(size) + tuple_of(stride)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip
    return b"\x80\x02}" + text("format") + b"K\x01s" + text("model") + b"}" + text("w") + tensor + b"ss."


def good() -> dict[str, object]:
    names = ("network", "classes", "config", "scores")
    return {"format": 1, "model": {"w": torch.ones(3)}, **{name: {} for name in names}}


def code() -> Iterator[tuple[str, bytes]]:
    """Files that run code if they are unpickled without protection."""
    target = os.environ[CODE_RAN]
    make = Call(os.mkdir, target)
    text = f"__import__('os').mkdir({target!r})"
    yield "a bare pickle", pickle.dumps(make)
    yield "a bare pickle, protocol 0", pickle.dumps(make, 0)
    for protocol in (2, 4, 5):
        yield f"os.mkdir, protocol {protocol}", with_pickle(pickle.dumps(make, protocol))
    yield "os.system", with_pickle(pickle.dumps(Call(os.system, f"mkdir {target}"), 2))
    yield "eval", with_pickle(pickle.dumps(Call(eval, text), 2))
    yield "exec", with_pickle(pickle.dumps(Call(exec, text), 2))
    yield "a pickle in a pickle", with_pickle(pickle.dumps(Call(pickle.loads, pickle.dumps(make)), 2))
    yield "torch.load of another file", with_pickle(pickle.dumps(Call(torch.load, "other.pt"), 2))
    yield "numpy.load", with_pickle(pickle.dumps(Call(np.load, "other.npy", None, True), 2))
    yield "getattr", with_pickle(b"\x80\x02cbuiltins\ngetattr\ncos\nX\x06\0\0\0systemtR.")
    yield "code as a weight", saved(good() | {"model": {"w": make}})
    yield "code as a key", saved(good() | {"scores": {(1, Call(os.mkdir, target)): 1}})
    yield "code as a setting", saved(good() | {"config": {"lr": make}})
    yield "code behind a good dictionary", with_pickle(pickle.dumps([good() | {"model": {}}, make], 2))
    yield "a state", saved(good() | {"scores": {"x": State({"a": 1})}})
    yield "a list of its own kind", saved(good() | {"scores": {"x": Listed([1])}})
    yield (
        "the instruction INST",
        with_pickle(b"(X" + struct.pack("<I", len(target)) + target.encode() + b"ios\nmkdir\n."),
    )
    yield (
        "the instruction OBJ",
        with_pickle(b"(cos\nmkdir\nX" + struct.pack("<I", len(target)) + target.encode() + b"o."),
    )
    yield "the instruction EXT1", with_pickle(b"\x80\x02\x82\x01)R.")
    yield (
        "a storage that is code",
        with_pickle(b"\x80\x02(X\x07\0\0\0storagecos\nmkdir\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ."),
    )
    buffer = io.BytesIO()
    torch.save(make, buffer, _use_new_zipfile_serialization=False)
    yield "PyTorch's old format", buffer.getvalue()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("storages", "tensors", "pickle"):
            data = pickle.dumps(make)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    yield "PyTorch's oldest format", buffer.getvalue()
    array = io.BytesIO()
    np.save(array, np.array([make], dtype=object), allow_pickle=True)
    yield "a numpy file of objects", array.getvalue()
    archived = io.BytesIO()
    np.savez(archived, data=np.array([make], dtype=object))
    yield "a numpy archive of objects", archived.getvalue()


def memory() -> Iterator[tuple[str, bytes]]:
    """Files that claim far more memory than their size, or need very long."""
    four = b"\0\0\x80?"
    yield "a tensor of stride 0", with_pickle(tensor_pickle(1, 0, (10**6, 10**6), (0, 0)), **{"0": four})
    yield "a storage that is not there", with_pickle(tensor_pickle(10**12, 0, (10**12,), (1,)), **{"0": four})
    yield "an offset behind the end", with_pickle(tensor_pickle(1, 10**9, (1,), (1,)), **{"0": four})
    yield "a negative offset", with_pickle(tensor_pickle(1, -(10**6), (1,), (1,)), **{"0": four})
    yield "a negative size", with_pickle(tensor_pickle(1, 0, (-5,), (1,)), **{"0": four})
    yield (
        "a size beyond 64 bits when multiplied",
        with_pickle(tensor_pickle(1, 0, (2**40, 2**40), (0, 0)), **{"0": four}),
    )
    yield (
        "many tensors of one storage",
        saved(good() | {"model": {str(i): torch.ones(1).expand(10**6) for i in range(1000)}}),
    )
    honest = saved(good())
    with zipfile.ZipFile(io.BytesIO(honest)) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    yield "compressed entries", archive(entries, zipfile.ZIP_DEFLATED)
    yield (
        "a compressed gigabyte",
        archive({"archive/data.pkl": b"N.", "archive/data/0": bytes(2**28)}, zipfile.ZIP_DEFLATED),
    )
    yield "a bytearray of a terabyte", with_pickle(b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\0\0\0\0\0\x01\x85R.")
    yield "lists in lists, 100,000 deep", with_pickle(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")
    doubled = b"\x80\x02]q\0" + b"".join(b"]q" + bytes([i]) + (b"h" + bytes([i - 1]) + b"a") * 10 for i in range(1, 40))
    yield "lists of ten times the list before", with_pickle(doubled + b".")
    yield "a number of a million digits", with_pickle(b"\x80\x02L" + b"9" * 10**6 + b"L\n.")
    yield "a memo at place 2^32", with_pickle(b"\x80\x02Nr\xff\xff\xff\xff.")
    yield "a text longer than the file", with_pickle(b"\x80\x02X\xff\xff\xff\x7fabc.")


def other() -> Iterator[tuple[str, bytes]]:
    """Files that are something else, or contain values that no checkpoint has."""
    honest = saved(good())
    with zipfile.ZipFile(io.BytesIO(honest)) as source:
        entries = [(name, source.read(name)) for name in source.namelist()]
    root = entries[0][0].split("/")[0]
    yield "an entry ../../x", archive([*entries, (f"{root}/../../x", b"")])
    yield "an entry /etc/x", archive([*entries, ("/etc/x", b"")])
    yield "two entries of one name", archive([*entries, (f"{root}/data.pkl", b"N.")])
    yield "two roots", archive([*entries, ("other/data.pkl", b"N.")])
    yield "no data.pkl", archive([entry for entry in entries if not entry[0].endswith("data.pkl")])
    yield "no entries", archive([])
    yield "not a dictionary", saved([1, 2])
    yield "a dictionary of something else", saved({"state_dict": {}})
    yield "a format that is no number", saved(good() | {"format": "1"})
    yield "a format that is True", saved(good() | {"format": True})
    yield "a later format", saved(good() | {"format": 10**6})
    yield "weights that are no tensors", saved(good() | {"model": {"w": [1.0]}})
    yield "weights that are no number", saved(good() | {"model": {"w": torch.tensor([float("nan")])}})
    yield "infinite weights", saved(good() | {"model": {"w": torch.tensor([float("inf")])}})
    yield "a sparse tensor", saved(good() | {"model": {"w": torch.eye(3).to_sparse()}})
    yield "a tensor without memory", saved(good() | {"model": {"w": torch.empty(3, device="meta")}})
    yield "a whole module", saved(torch.nn.Linear(2, 2))
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), script)
    yield "TorchScript", script.getvalue()
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    yield "safetensors", struct.pack("<Q", len(header)) + header + bytes(4)
    yield "a PNG file", b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "text", b"format: 1\n"
    yield "one byte", b"P"
    yield "nothing", b""
    yield "a zip file's end, and nothing before it", b"PK\x05\x06" + bytes(18)
    yield "a checksum, and nothing before it", b"sha256:" + b"0" * 64


def corpus(folder: Path) -> Iterator[tuple[str, Path]]:
    """Write all files to ``folder``, one after the other; yields their names for messages and their paths."""
    for kind in (code, memory, other):
        for name, data in kind():
            path = folder / f"{len(list(folder.iterdir())):03d}.pt"
            path.write_bytes(data)
            yield name, path
