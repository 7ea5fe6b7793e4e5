"""What README and docs tell a reader to type: every command is one, with options that it has, and Python code runs."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from box_convolution import extras, networks
from boxconv.cli import commands, recipes
from boxconv.data.classes import read_classes
from boxconv.data.label_encoding import read_palette

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS += [ROOT / "box_convolution" / "pretrained" / "README.md"]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def blocks(language):
    for document in DOCUMENTS:
        for number, (kind, text) in enumerate(BLOCK.findall(document.read_text(encoding="utf-8"))):
            if kind == language:
                yield pytest.param(text, id=f"{document.relative_to(ROOT)}-{number}")


def lines():
    """Each command of each block, and each one within a sentence that names more than a program."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        found = [line for kind, block in BLOCK.findall(text) if not kind for line in block.splitlines()]
        found += re.findall(r"`((?:make|boxconv|python|pip|torchrun) [^`]+)`", BLOCK.sub("", text).replace("\n", " "))
        for line in found:
            for command in line.partition(" #")[0].split("&&"):
                words = shlex.split(command) if re.match(r"\s*(make|boxconv|python|pip|torchrun)\s", command) else []
                if words:
                    yield pytest.param(words, id=f"{document.relative_to(ROOT)}: {' '.join(words)}")


COMMANDS = list(lines())


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_is_one(words, capsys):
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
        assert all(f'"{option}"' in source for option in arguments if option.startswith("--"))


def check_torchrun(arguments):
    start = arguments.index("-m")
    assert arguments[start + 1] == "boxconv"
    check_boxconv(arguments[start + 2 :])


def check_boxconv(arguments):
    """Read as the program reads it. Where a sentence leaves something out, its options are those of the command."""
    arguments = ["folder" if word == "NAME" else word for word in arguments if word != "..."]
    recipe = recipes.chosen(arguments)
    if recipe == "help" or arguments in (["--help"], ["--version"]):
        return
    packaged = recipe if recipe is not None and not recipe.endswith(".json") else None
    try:
        args = commands.parse(arguments, packaged)
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
    """What a link to a heading ends with, as GitHub and the documentation site have it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target, heading in LINK.findall(BLOCK.sub("", document.read_text(encoding="utf-8"))):
        path = document.parent / target
        assert path.exists(), target
        if heading:
            assert heading in map(place, HEADING.findall(path.read_text(encoding="utf-8"))), f"{target}#{heading}"


def test_the_annotated_tree_has_every_file_and_no_other():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = next(block for _, block in BLOCK.findall(text) if block.startswith("box_convolution/"))
    named, folders = set(), []
    for line in tree.splitlines():
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        folders = [*folders[:depth], name]
        if not name.endswith("/"):
            named.add("".join(folders))
    kinds = (".py", ".cpp", ".h", ".inl")
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


@pytest.mark.parametrize("code", list(blocks("python")))
def test_python_code_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = networks.create("boxenet", 3, input_size=(32, 48)).eval()
    exec(code, {"network": network, "calibration_images": [torch.rand(1, 3, 32, 48)]})


@pytest.mark.parametrize("text", [block for block in blocks("") if block.values[0].startswith("label,name,")])
def test_class_tables_are_read(text, tmp_path):
    (tmp_path / "classes.csv").write_text(text)
    assert len(read_classes(tmp_path / "classes.csv")) == 2


@pytest.mark.parametrize("text", [block for block in blocks("") if block.values[0].startswith("red,green,blue,name")])
def test_palettes_are_read(text, tmp_path):
    (tmp_path / "classes.csv").write_text("label,name,red,green,blue\n0,road,1,2,3\n1,car,4,5,6\n")
    (tmp_path / "palette.csv").write_text(text)
    assert read_palette(tmp_path / "palette.csv", read_classes(tmp_path / "classes.csv"))
