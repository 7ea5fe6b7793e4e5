"""Types for a user's mypy, which must accept right programs and find mistakes, with the installed package."""

import subprocess
import sys

import pytest

PROGRAM = """
import torch
from torch import Tensor, nn
from box_convolution import BoxBottleneck, BoxConv2d, box_conv2d, networks, ops

class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.boxes = BoxConv2d(16, 4, max_input_h=64, max_input_w=128, symmetric=True)
        self.block = BoxBottleneck(64, max_input_h=64, max_input_w=128)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.block(self.boxes(image))
        return features

network: nn.Module = networks.create("boxenet", num_classes=19, input_size=(512, 1024))
names: list[str] = networks.names()
output: Tensor = box_conv2d(torch.rand(1, 16, 8, 8), Net().boxes.boxes, normalize=True, stride=2)
name: str = ops.backend(output)
with ops.use("reference"):
    Net().boxes.draw("boxes.png", image=output, most=None)
"""
MISTAKES = {
    "BoxConv2d('sixteen', 4, max_input_h=64, max_input_w=128)": "arg-type",
    "BoxConv2d(16, 4, max_input_h=64)": "call-arg",
    "box_conv2d(torch.rand(1, 1, 8, 8))": "call-arg",
    "networks.create('boxenet', num_classes='many', input_size=(8, 8))": "arg-type",
}


def mypy(folder, program):
    """Run mypy in a folder in which it finds only the installed package; returns its output."""
    (folder / "program.py").write_text(program)
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "program.py"],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_a_users_program(tmp_path):
    mistakes = "\n".join(MISTAKES)
    done = mypy(tmp_path, f"{PROGRAM}{mistakes}\n")
    first = PROGRAM.count("\n") + 1
    found = {line.partition(": ")[0]: line for line in done.stdout.splitlines() if ": error: " in line}
    assert set(found) == {f"program.py:{first + number}" for number in range(len(MISTAKES))}, done.stdout
    for number, code in enumerate(MISTAKES.values()):
        assert f"[{code}]" in found[f"program.py:{first + number}"]
