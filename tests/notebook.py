"""Run a notebook without Jupyter, and keep what its cells print and draw: `make tutorial`.

usage: python tests/notebook.py NOTEBOOK
"""

import base64
import contextlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt

DOTS_PER_INCH = 80


def run(notebook: dict[str, Any], substitutions: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run the cells in order and store their outputs in ``notebook``. Returns the variables that they define.

    substitutions: parts of the code and their replacements. Raises ValueError for a part that does not occur.
    """
    missing = dict(substitutions or {})
    variables: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        code = "".join(cell["source"])
        for text, replacement in (substitutions or {}).items():
            if text in code:
                code = code.replace(text, replacement)
                missing.pop(text, None)
        cell["execution_count"] = number
        cell["outputs"] = outputs_of(code, variables)
    if missing:
        raise ValueError(f"no cell contains {', '.join(missing)}")
    return variables


def outputs_of(code: str, variables: dict[str, Any]) -> list[dict[str, Any]]:
    """Run ``code``; returns its printed text, then its figures, in the format of a notebook file."""
    printed, pictures = io.StringIO(), []
    show, plt.show = plt.show, lambda: pictures.extend(drawn())
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "<cell>", "exec"), variables)
    finally:
        plt.show = show
    text = printed.getvalue().splitlines(keepends=True)
    return ([{"name": "stdout", "output_type": "stream", "text": text}] if text else []) + [
        {"data": {"image/png": picture}, "metadata": {}, "output_type": "display_data"} for picture in pictures
    ]


def drawn() -> list[str]:
    """The open figures as base64-encoded PNG; closes them."""
    pictures = []
    for number in plt.get_fignums():
        file = io.BytesIO()
        plt.figure(number).savefig(file, format="png", dpi=DOTS_PER_INCH)
        pictures.append(base64.b64encode(file.getvalue()).decode())
        plt.close(number)
    return pictures


def main(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    run(notebook)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
