"""Every command and code block in README and docs runs, unchanged except for SUBSTITUTIONS.

Each block runs in its own folder, which has the files that the block assumes: photographs, data sets, trained networks.
Whatever cannot run here is listed with the reason.
"""

import itertools
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import data_trees
import pytest
from documents import BLOCKS, ROOT, Block

from box_convolution.ops import cpu_library
from boxconv.cli import main
from boxconv.data.class_table import read_classes
from boxconv.data.label_encoding import read_palette

TINY = "--size 32 48 --epochs 1 --batch-size 2 --scenes-per-epoch 2 --scenes-for-validation 2 --workers 0"
# Patterns in a command line, and what stands in their place.
SUBSTITUTIONS = {
    # Words for what a reader puts in.
    r" \.\.\.": " --data folder --root DIR",
    r"--data NAME": "--data folder",
    r"--size H W": "--size 32 48",
    r"\bRUNS\b": "runs/boxenet-0",
    r"\bCOMMAND\b": "train",
    # Sizes and times: of several equal options the last one counts.
    r"^make demo$": "python examples/demo.py --out demo --epochs 1 --scenes-per-epoch 2",
    r"^((?:boxconv|torchrun .*) train(?!.*(?:--resume|--help|help)).*)": rf"\1 {TINY} --overwrite",
    r"^(boxconv finetune .*)": r"\1 --epochs 1",
    r"^(boxconv analyze (?!.*--positions).*)": r"\1 --images 1 --positions 1",
    r"^(boxconv distance .*)": r"\1 --scenes 1",
    r"^(boxconv cost .*)": r"\1 --size 32 48 --rounds 1",
    r"--resume --epochs 60": "--resume --epochs 2",
    r"--device cuda": "--device cpu",
    r"^torchrun --nproc-per-node 4": "torchrun --standalone --nproc-per-node 2",
    # Half a minute each; ONNX and exported programs have tests of their own.
    r"\bnet\.onnx\b": "net.safetensors",
    # Runs of the block, at our sizes, can be compared with each other alone.
    r"--kept docs/camvid/runs.json": "--kept runs.json",
    r"^boxconv compare runs/\*$": "boxconv compare runs/mine",
}
# Commands that do not run here.
NOT_RUN = {
    r"^pip install|^apt-get": "changes the environment",
    r"--custom-operators": "needs a library that is an option of the build",
    r"^make (test|lint|results|reliability|compatibility|bench|docs)": "minutes or hours; only demo runs here",
    r"^python benchmarks/(cpu|gpu|authors_networks|readers|half_and_int8)\.py": "many minutes, or the authors' code",
    r"^python benchmarks/results\.py": "trains for hours",
    r"^python benchmarks/(large_image|predicting)\.py": "minutes, and an image of a gigabyte",
    r"^python examples/convert_network\.py": "trains two networks; tests/convert/test_example.py does it in one step",
    r"^python tests/versions\.py": "runs tests, and writes into the documents",
    r"^boxconv bench": "minutes",
    r"^boxconv demo-app": "serves until ctrl-C; tests/boxconv/cli/test_demo_app.py",
    r"^boxconv export .*\.pt2$": "half a minute; tests/boxconv/cli/test_deploy.py exports and prunes",
    r"^boxconv import-sunrgbd": "archives in MATLAB's format; tests/boxconv/data/test_sunrgbd_import.py makes some",
    r"--start-from$": "the name of an option",
    r"^boxconv predict drive\.mp4$": "needs a video; tests/boxconv/inference/test_video.py makes some",
    r"^boxconv predict folder/model\.safetensors$": "leaves out the photographs",
}
# Blocks that hold no command and no Python, by what they begin with.
NOTHING_TO_RUN = {
    "box_convolution/": "the tree of files",
    "boxconv   ": "the diagram of the packages",
    "cmake ": "builds the C library; tests/test_c_example.py does it",
    "@inproceedings": "the paper",
    "box-convolution     0.1.0": "what boxconv doctor prints",
}
# Options whose value is written, not read.
OUTPUTS = {"--out", "--json", "--picture", "--plot", "--csv", "--kept", "--write", "--areas", "--contact-sheet"}


def substituted(command: str) -> str:
    for pattern, replacement in SUBSTITUTIONS.items():
        command = re.sub(pattern, replacement, command)
    return command


def reason(command: str, block: Block) -> str | None:
    """Why ``command`` does not run here; None if it does."""
    if block.language == "sentences" and command in IN_BLOCKS:
        return "runs where it stands in a block"
    if len(command.split()) == 2 and command.startswith("boxconv ") and command != "boxconv doctor":
        return "the name of a command"
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, command)), None)


IN_BLOCKS = {command for block in BLOCKS if block.language != "sentences" for command in block.commands}


def to_run(block: Block) -> list[str]:
    return [command for command in block.commands if reason(command, block) is None]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the documents assume."""
    root = tmp_path_factory.mktemp("given")
    data_trees.folder(root / "DIR")
    data_trees.camvid_folders(root / "CAMVID")
    data_trees.cityscapes(root / "CITYSCAPES")
    data_trees.sunrgbd(root / "SUNRGBD")
    for name in ("photo.jpg", "photos/one.jpg", "photos/two.jpg"):
        data_trees.save(root / name, data_trees.noise(name, (32, 48)))
    shutil.copytree(ROOT / "docs", root / "docs", ignore=shutil.ignore_patterns("*.gif", "*.jpg", "*.png"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for network in ("enet", "boxenet"):
            for data in ("--data camvid --root CAMVID", "--data scenes"):
                out = f"trained/{data.split()[1]}/{network}"
                assert main(f"train --out {out} --network {network} {data} {TINY} --quiet".split()) == 0
        assert main(["export", "trained/camvid/boxenet/best.pt", "--out", "trained/net.safetensors"]) == 0
    shutil.copy(root / "trained" / "scenes" / "boxenet" / "config.json", root / "mine.json")
    return root


@pytest.fixture
def here(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(given, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def provide(words: list[str]) -> None:
    """Train, for a short time, the networks that a command reads and that do not exist yet."""
    trained = Path("trained", "scenes" if words[1] == "distance" else "camvid")
    if "runs/*" in words and not Path("runs").exists():
        words = [*words, "runs/enet-0", "runs/boxenet-0"]
    for before, word in itertools.pairwise(words):
        found = re.match(r"runs/[\w-]+|RUN\b|net\.safetensors", word)
        new = before in OUTPUTS and "--resume" not in words
        if found is None or new or Path(found[0]).exists():
            continue
        if found[0] == "net.safetensors":
            shutil.copy("trained/net.safetensors", found[0])
        else:
            shutil.copytree(trained / ("enet" if "/enet" in word else "boxenet"), found[0])


def run(command: str) -> int:
    words = shlex.split(command)
    provide(words)
    program, *arguments = [
        str(found) for word in words for found in (sorted(Path().glob(word)) if "*" in word else [word])
    ]
    if program == "boxconv":
        return exit_status(arguments)
    if program == "torchrun":
        return subprocess.run([sys.executable, "-m", "torch.distributed.run", *arguments], timeout=120).returncode
    assert program == "python"
    sys.argv = arguments
    runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
    return 0


def exit_status(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as stop:  # --help
        return stop.code if isinstance(stop.code, int) else 1


def kind(block: Block) -> str:
    """What to do with a block. Raises KeyError if the tables above do not say it."""
    if block.language in ("python", "sentences"):
        return block.language
    if block.commands:
        return "commands"
    if block.text.startswith(("label,name,", "red,green,blue,")):
        return "table"
    return next(why for start, why in NOTHING_TO_RUN.items() if block.text.lstrip().startswith(start))


COMMANDS = [block for block in BLOCKS if to_run(block)]


@pytest.mark.slow
@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block.name)
def test_commands_run(
    block: Block, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    for command in to_run(block):
        status = run(substituted(command))
        output = capsys.readouterr()
        without_kernels = command == "boxconv doctor" and cpu_library.status() is not None
        assert status == (1 if without_kernels else 0), f"{command}: {output.err}"
        assert "Traceback" not in output.err


@pytest.mark.parametrize("block", [block for block in BLOCKS if kind(block) == "python"], ids=lambda block: block.name)
def test_python_runs(block: Block, here: Path) -> None:
    exec(block.text, {})


@pytest.mark.parametrize("block", [block for block in BLOCKS if kind(block) == "table"], ids=lambda block: block.name)
def test_tables_are_read(block: Block, here: Path) -> None:
    classes, palette = Path("classes.csv"), Path("palette.csv")
    if block.text.startswith("label,"):
        classes.write_text(block.text)
        assert len(read_classes(classes)) == 2
    else:
        classes.write_text("label,name,red,green,blue\n0,road,1,2,3\n1,car,4,5,6\n")
        palette.write_text(block.text)
        assert read_palette(palette, read_classes(classes))


def test_every_line_of_the_tables_is_needed() -> None:
    commands = [command for block in BLOCKS for command in block.commands]
    run_here = [command for block in BLOCKS for command in to_run(block)]
    for pattern in NOT_RUN:
        assert any(re.search(pattern, command) for command in commands), pattern
    for pattern in SUBSTITUTIONS:
        assert any(re.search(pattern, command) for command in run_here), pattern
    for start in NOTHING_TO_RUN:
        assert any(block.text.lstrip().startswith(start) for block in BLOCKS), start
    assert len(run_here) > 50
