"""If a package is missing, one line names it and says how to install it. Whatever does not need it still works."""

import subprocess
import sys

import pytest

from box_convolution import extras

HIDE = """
import importlib.util, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
found = importlib.util.find_spec
def find_spec(name, package=None):
    try:
        return found(name, package)
    except ModuleNotFoundError:
        return None
importlib.util.find_spec = find_spec
"""
COMMANDS = "numpy,PIL,tyro,tqdm,tensorboard,matplotlib,safetensors"
RUN = HIDE + "from boxconv.cli import main; sys.exit(main(sys.argv[2:]))"


def without(packages, *arguments, program=RUN, folder=None):
    command = [sys.executable, "-c", program, packages, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)


@pytest.mark.parametrize(
    "packages, line, missing",
    [
        (COMMANDS, "predict photo.jpg", ["numpy", "pillow", "tyro", "tqdm", "tensorboard", "safetensors"]),
        (COMMANDS, "train --help", ["tyro"]),
        ("tyro", "cost enet", ["tyro"]),
        ("numpy,PIL", "check-data .", ["numpy", "pillow"]),
        ("safetensors", "evaluate boxenet-camvid --root .", ["safetensors"]),
        ("onnxruntime", "evaluate net.onnx --root .", ["onnxruntime"]),
        ("werkzeug", "demo-app", ["werkzeug"]),
        ("imageio_ffmpeg", "predict drive.mp4", ["imageio-ffmpeg"]),
    ],
)
def test_one_line_says_what_to_install(tmp_path, packages, line, missing):
    (tmp_path / "net.onnx").write_bytes(b"no network")
    (tmp_path / "drive.mp4").write_bytes(b"no video")
    done = without(packages, *line.split(), folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("boxconv: error: ")
    command = done.stderr.partition(": pip install ")[2]
    assert all(f"'{name}>=" in command for name in missing), done.stderr


def test_what_needs_no_further_package(tmp_path):
    assert without(COMMANDS, "--version").stdout.startswith("boxconv ")
    doctor = without(COMMANDS, "doctor")
    assert "Traceback" not in doctor.stderr
    assert "for the commands" in doctor.stdout


@pytest.mark.parametrize(
    "packages, program",
    [
        ("matplotlib", "box_convolution.BoxConv2d(1, 1, 4, 4).draw('boxes.png')"),
        ("numpy", "box_convolution.BoxConv2d(1, 1, 4, 4).draw('boxes.png')"),
        ("huggingface_hub", "import box_convolution.networks.hub"),
        ("safetensors", "box_convolution.networks.create('boxenet', pretrained='camvid')"),
        ("onnx", "from box_convolution.deploy import to_onnx; to_onnx(None, 'net.onnx', None)"),
    ],
)
def test_the_library_says_it_too(tmp_path, packages, program):
    guarded = f"import box_convolution\ntry:\n    {program}\nexcept ImportError as error:\n    print(error)"
    done = without(packages, program=HIDE + guarded)
    assert f"{packages}, not installed: pip install '{packages}>=" in done.stdout, done


def test_without_pytorch():
    line = "boxconv: error: PyTorch cannot be imported (No module named 'torch'): pip install torch\n"
    failed = without("torch", "cost", "enet")
    assert (failed.returncode, failed.stderr) == (1, line)
    doctor = without("torch", "doctor")
    assert doctor.returncode == 1
    assert "PyTorch: pip install torch" in doctor.stdout


def test_other_failures_are_not_explained():
    assert extras.explain(ModuleNotFoundError("No module named 'other'", name="other")) is None
    assert extras.explain(ImportError("cannot import name 'x' from 'numpy'", name="numpy")) is None


def test_no_extra_moves_torch():
    """PyTorch pins its version of Triton, so an extra that asks for another one would replace PyTorch."""
    from importlib import metadata

    declared = [text.split(";") for text in metadata.requires("box_convolution")]
    assert {requirement.strip() for requirement, *marker in declared if not marker} == {"torch>=2.6"}
    assert not [text for text, *marker in declared if marker and text.startswith(("torch", "triton", "nvidia"))]
