"""The example that trains a converted network and the original."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "convert_network.py"


@pytest.mark.parametrize("form", [[], ["--chain"]], ids=str)
def test_both_networks_are_trained_and_scored(form: list[str]) -> None:
    command = [sys.executable, str(EXAMPLE), "--steps", "1", "--batch-size", "2", "--scenes", "2", *form]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "16 channels x 4 boxes" in done.stdout.partition("\noriginal\n")[0]
    assert "class IoU" in done.stdout.partition("\nwith boxes\n")[2]
    assert done.stdout.count("class IoU") == 2
