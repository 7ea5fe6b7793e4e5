"""The package and the command line start without PyTorch; the operators are there as soon as it is."""

import subprocess
import sys

import pytest

import box_convolution
from box_convolution.cli import main


def python(program):
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_help_and_usage_errors_need_no_torch():
    program = """
import sys
from box_convolution.cli import main
for arguments, status in [("--help", 0), ("train --help", 0), ("train --epochs many", 2), ("fly", 2)]:
    try:
        main(arguments.split())
    except SystemExit as stop:
        assert stop.code == status, (arguments, stop.code)
    else:
        raise AssertionError(arguments)
heavy = {"torch", "numpy", "PIL", "matplotlib", "tqdm"} & set(sys.modules)
assert not heavy, heavy
"""
    python(program)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"boxconv {box_convolution.__version__}\n"


@pytest.mark.parametrize("imports", ["import box_convolution, torch", "import torch, box_convolution"])
def test_operators_are_registered_whichever_import_comes_first(imports):
    program = f"""
{imports}
out = torch.ops.box_convolution.box_conv2d(torch.ones(1, 1, 2, 2), torch.tensor([[[-.5, .5, -.5, .5]]]), True, 1)
assert torch.equal(out, torch.ones(1, 1, 2, 2))
"""
    python(program)


def test_names_are_found_when_used():
    program = """
import sys, box_convolution
assert "torch" not in sys.modules
assert box_convolution.__version__
assert dir(box_convolution) == sorted(box_convolution.__all__)
for name in box_convolution.__all__:
    assert getattr(box_convolution, name) is getattr(box_convolution, name)
from box_convolution import *
assert BoxConv2d is box_convolution.layer.BoxConv2d
try:
    box_convolution.BoxConv3d
except AttributeError as error:
    assert "BoxConv3d" in str(error)
else:
    raise AssertionError
"""
    python(program)


def test_without_torch_the_message_names_it():
    program = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Missing())
import box_convolution
for _ in range(2):
    try:
        box_convolution.BoxConv2d
    except ModuleNotFoundError as error:
        assert error.name == "torch"
    else:
        raise AssertionError
"""
    python(program)
