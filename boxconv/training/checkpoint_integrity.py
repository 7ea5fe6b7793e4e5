"""The zip files that PyTorch saves: sealed with a checksum, and checked before PyTorch reads them.

`torch.load(weights_only=True)` alone is not enough: it does not verify the checksums in the file, it unpacks compressed
entries of any size, and it follows every reference to code that its own list allows. The checks here, which run without
PyTorch, reject such files. safetensors is no alternative: it stores named tensors only, without nested values such as
the state of an optimiser, and without a checksum.
"""

import hashlib
import io
import pickletools
import re
import zipfile

_SEAL = b"sha256:"
_LENGTH = len(_SEAL) + 64
_END = b"PK\x05\x06"
_REFERENCES = re.compile(r"collections OrderedDict|torch [A-Za-z]+Storage|torch\._utils _rebuild_(tensor_v2|parameter)")


class ArchiveError(ValueError):
    """The bytes are not an archive that can be trusted; the message says why."""


def sealed(data: bytes) -> bytes:
    """Add a comment to a zip file: the SHA-256 of everything before the comment.

    Raises ArchiveError for bytes that are not a zip file, or that have a comment already.
    """
    if data[-22:-18] != _END or data[-2:] != b"\0\0":
        raise ArchiveError("expected a zip file without a comment")
    data = data[:-2] + _LENGTH.to_bytes(2, "little")
    return data + _SEAL + hashlib.sha256(data).hexdigest().encode()


def check_archive(data: bytes) -> None:
    """Raise ArchiveError unless the archive is intact, has uncompressed entries only, and does not refer to code.

    References to the functions that rebuild tensors are allowed.
    """
    _check_seal(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries, len(data))
            damaged = archive.testzip()
            if damaged:
                raise ArchiveError(f"damaged: the content of {damaged!r} does not match its checksum")
            _check_references(archive.read(next(e for e in entries if e.filename.endswith("/data.pkl"))))
    except ArchiveError:
        raise
    except Exception as error:  # for damaged bytes, zipfile and pickletools raise half a dozen types
        raise ArchiveError(f"not a checkpoint, or cut off ({error or type(error).__name__})") from error


def _check_seal(data: bytes) -> None:
    if data[-_LENGTH:-64] != _SEAL:
        raise ArchiveError("not a checkpoint, or cut off: there is no checksum at its end")
    if hashlib.sha256(data[:-_LENGTH]).hexdigest().encode() != data[-64:]:
        raise ArchiveError("damaged: the content does not match its checksum")


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    names = [entry.filename for entry in entries]
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ArchiveError(f"entry {entry.filename!r} is compressed, which no checkpoint of ours is")
    root = names[0].split("/")[0] if names else ""
    odd = [name for name in names if not re.fullmatch(re.escape(root) + r"/[A-Za-z0-9_.]+(/[0-9a-z_]+)?", name)]
    if odd or root in ("", ".", ".."):
        raise ArchiveError(f"not a checkpoint: unexpected entry {(odd or [root])[0]!r}")
    if len(set(names)) < len(names):
        raise ArchiveError("two entries have one name")
    if f"{root}/data.pkl" not in names:
        raise ArchiveError(f"not a checkpoint: there is no entry {root}/data.pkl")
    if sum(entry.file_size for entry in entries) > size:
        raise ArchiveError("its entries claim more bytes than the file has")


def _check_references(pickled: bytes) -> None:
    """A pickle refers to code by name. Ours refer only to the functions and types that rebuild tensors."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            if not _REFERENCES.fullmatch(str(argument)):
                raise ArchiveError(f"refers to {str(argument).replace(' ', '.')}, which no checkpoint of ours does")
        elif opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"):
            raise ArchiveError(f"holds the pickle instruction {opcode.name}, which no checkpoint of ours does")
