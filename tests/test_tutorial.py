"""The tutorial runs, shortened; its stored outputs are small and complete."""

import json
from pathlib import Path

import notebook
import pytest

PATH = Path(__file__).parents[1] / "examples" / "tutorial.ipynb"
SHORTER = {"STEPS = 500": "STEPS = 4", "TEST_IMAGES = 500": "TEST_IMAGES = 2"}


def read() -> dict:
    return json.loads(PATH.read_text(encoding="utf-8"))


def test_every_cell_runs() -> None:
    tutorial = read()
    variables = notebook.run(tutorial, SHORTER)
    stored = [cell["outputs"] for cell in read()["cells"] if cell["cell_type"] == "code"]
    now = [cell["outputs"] for cell in tutorial["cells"] if cell["cell_type"] == "code"]
    assert [[output["output_type"] for output in cell] for cell in now] == [
        [output["output_type"] for output in cell] for cell in stored
    ]
    assert not variables["before"].equal(variables["boxes"].boxes), "training moved no box"


def test_stored_outputs_are_small() -> None:
    assert PATH.stat().st_size < 300_000
    code = [cell for cell in read()["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))


def test_a_substitution_that_fits_nowhere_is_an_error() -> None:
    with pytest.raises(ValueError, match="no cell contains NOWHERE"):
        notebook.run({"cells": []}, {"NOWHERE": ""})
