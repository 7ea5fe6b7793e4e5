"""The command line starts without PyTorch."""

import importlib.metadata
import subprocess
import sys

import box_convolution
from boxconv.cli import main


def test_help_and_usage_errors_need_no_torch():
    program = """
import sys
from boxconv.cli import main
lines = [("--help", 0), ("train --help", 0), ("train --epochs many", 2), ("fly", 2)]
deployed = ["draw net.pt2 --out a.png", "export net.onnx --out a.pt2", "demo-app net.pt2", "analyze net.onnx"]
deployed += ["analyze run --against net.pt2", "finetune net.pt2 --out run", "train --start-from net.onnx --out run"]
for arguments, status in lines + [(line, 2) for line in deployed]:
    try:
        got = main(arguments.split())
    except SystemExit as stop:
        got = stop.code
    assert got == status, (arguments, got)
heavy = {"box_convolution", "torch", "numpy", "PIL", "matplotlib", "tqdm"} & set(sys.modules)
assert not heavy, heavy
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    refused = [line for line in result.stderr.splitlines() if ": a deployed network (" in line]
    assert len(refused) == 7
    assert all("give the checkpoint, run or .safetensors file that it was exported from" in line for line in refused)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"boxconv {box_convolution.__version__}\n"


def test_the_command_and_the_module_are_one():
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="boxconv")
    assert command.load() is main
    result = subprocess.run([sys.executable, "-m", "boxconv", "--version"], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (0, f"boxconv {box_convolution.__version__}\n")
