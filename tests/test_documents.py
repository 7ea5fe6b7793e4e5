"""Commands in README and docs: each exists, and has the options that it is used with.

This includes the abridged commands in sentences. `test_documents_run.py` runs the commands that can be run.
"""

import json
import re

import pytest
from compatibility_table import KEPT, PAGE, written
from documents import BLOCKS, DOCUMENTS, ROOT, sentences

from box_convolution import extras
from boxconv.cli import commands, train

TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
COMMANDS = [
    pytest.param(words, id=f"{block.name}: {' '.join(words)}")
    for block in BLOCKS
    for words in block.programs
    if words[0] != "apt-get"
]


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_exist(words, capsys):
    program, *arguments = words
    {
        "make": check_make,
        "pip": check_pip,
        "python": check_python,
        "torchrun": check_torchrun,
        "boxconv": check_boxconv,
    }[program](arguments)


def check_make(targets):
    assert set(targets) <= TARGETS


def check_pip(arguments):
    assert arguments[0] == "install"
    for name in re.findall(r"\.\[([\w,]+)\]", " ".join(arguments)):
        assert all(list(extras.requirements(extra)) for extra in name.split(","))


def check_python(arguments):
    if arguments[:2] == ["-m", "boxconv"]:
        check_boxconv(arguments[2:])
    else:
        source = (ROOT / arguments[0]).read_text()
        own = arguments[: arguments.index("--")] if "--" in arguments else arguments
        assert all(f'"{option}"' in source for option in own if option.startswith("--"))
        if own != arguments:  # what follows are options of `boxconv train`
            check_boxconv(["train", *arguments[len(own) + 1 :]])


def check_torchrun(arguments):
    start = arguments.index("-m")
    assert arguments[start + 1] == "boxconv"
    check_boxconv(arguments[start + 2 :])


def check_boxconv(arguments):
    """Parse a command as the program does. If it is abridged, at least its options must exist."""
    arguments = ["folder" if word == "NAME" else word for word in arguments if word != "..."]
    recipe = train.given(arguments, "--recipe")
    if recipe == "help" or arguments in (["--help"], ["--version"]):
        return
    if recipe is not None and recipe.endswith(".json"):  # the reader's own
        place = arguments.index("--recipe")
        arguments = arguments[:place] + arguments[place + 2 :]
    try:
        args = commands.parse(arguments)
    except SystemExit as stop:
        if stop.code == 0:  # --help
            return
        kind, _ = commands.COMMANDS[arguments[0]]
        known = {f"--{name.replace('_', '-')}" for name in kind.__dataclass_fields__}
        assert {word for word in arguments if word.startswith("--")} <= known
        assert "|" in arguments or len(arguments) < 3
    else:
        assert type(args) is commands.COMMANDS[arguments[0]][0]


def test_the_reader_of_documents_finds_them():
    programs = [words.values[0][0] for words in COMMANDS]
    assert programs.count("boxconv") > 40
    assert {"make", "pip", "python", "torchrun"} <= set(programs)
    with pytest.raises((AssertionError, SystemExit)):
        check_boxconv(["train", "--no-such-option", "1"])
    with pytest.raises(AssertionError):
        check_make(["no-such-target"])


LINK = re.compile(r"\]\(([^)\s:#]+)(?:#([^)\s]*))?\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def place(heading):
    """The anchor of a heading on GitHub and on the documentation site."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target, heading in LINK.findall(sentences(document)):
        path = document.parent / target
        assert path.exists(), target
        if heading:
            assert heading in map(place, HEADING.findall(path.read_text(encoding="utf-8"))), f"{target}#{heading}"


def test_the_annotated_tree_has_every_file_and_no_other():
    architecture = [block.text for block in BLOCKS if block.name.startswith("docs/architecture.md-")]
    tree = next(text for text in architecture if text.startswith("box_convolution/"))
    named, folders = set(), []
    for line in tree.splitlines():
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        folders = [*folders[:depth], name]
        if not name.endswith("/"):
            named.add("".join(folders))
    kinds = (".py", ".cpp", ".h", ".inl", ".html", ".css", ".js")
    there = {
        str(path.relative_to(ROOT))
        for package in ("box_convolution", "boxconv")
        for path in (ROOT / package).rglob("*")
        if path.suffix in kinds and path.name != "__init__.py"
    }
    assert named == there


def test_files_to_change_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text[text.index("## Where to change what") :]
    files = re.findall(r"`((?:box_convolution|boxconv|benchmarks|tests)/[\w./]+)`", table)
    assert len(files) > 25
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_the_table_of_compatibility_holds_what_was_recorded():
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page, json.loads(KEPT.read_text()))
