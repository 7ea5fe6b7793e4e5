"""The code blocks and commands of README and docs, read from the files."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS += [ROOT / "box_convolution" / "pretrained" / "README.md"]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PROGRAM = r"(?:make|boxconv|python|pip|torchrun|apt-get)"


class Block(NamedTuple):
    """A block of code, or all commands in the sentences of a document."""

    name: str  # such as "docs/data.md-1"
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The command lines without comments; empty if the block contains something else."""
        if self.language not in ("", "sentences"):
            return []
        lines = [line.partition(" #")[0].strip() for line in self.text.splitlines()]
        commands = [command.strip() for line in lines for command in line.split("&&")]
        return [command for command in commands if re.match(rf"{_PROGRAM}\s", command)]

    @property
    def programs(self) -> list[list[str]]:
        """The commands, each split into words."""
        return [shlex.split(command) for command in self.commands]


def sentences(document: Path) -> str:
    """The text of a document without its blocks of code."""
    return _BLOCK.sub("", document.read_text(encoding="utf-8"))


def _read() -> list[Block]:
    found = []
    for document in DOCUMENTS:
        name, text = document.relative_to(ROOT), document.read_text(encoding="utf-8")
        found += [Block(f"{name}-{k}", kind, block) for k, (kind, block) in enumerate(_BLOCK.findall(text))]
        # The name of a program alone is not a command.
        named = re.findall(rf"`({_PROGRAM} [^`]+)`", sentences(document).replace("\n", " "))
        found.append(Block(f"{name}: in sentences", "sentences", "\n".join(dict.fromkeys(named))))
    return found


BLOCKS = _read()
