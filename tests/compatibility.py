"""Tries every facility of PyTorch in the table with the layer and all networks: `make compatibility` writes
docs/compatibility.md in some ten minutes.

The suite tries the same table, without what takes long (`test_facilities.py`).
"""

import argparse
import platform
import sys
import warnings
from pathlib import Path

import torch
from facilities import ALL, FACILITIES, LAYER, Facility, check

from box_convolution.analysis.tables import Section, Table
from box_convolution.cli.sections import write_sections

COMMAND = "facilities"
NOT_TRIED = (
    ('CUDA and ROCm: CUDA graphs, `mode="reduce-overhead"` with them', "no GPU; fake tensors show that nothing waits"),
    ("`torch.fx` quantisation (`prepare_fx`), torchao", "not in PyTorch any more, or a package of its own"),
    ("Captum and torchvision's `create_feature_extractor`", "the hooks and graphs they are made of are tried above"),
    ("MPS, XPU, XLA", "no such device"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="Markdown file for the tables")
    parser.add_argument("--only", default="", help="try only facilities whose group or name has these words")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = [row for row in FACILITIES if args.only in f"{row.group}: {row.name}"]
    found = {row: _try(row) for row in rows}
    sections = _sections(found)
    for section in sections:
        print(section.plain())
    if args.write:
        write_sections(args.write, COMMAND, sections, level=3)
    return int(any(bool(failed) != bool(row.refused) for row, failed in found.items()))


def _try(row: Facility) -> dict[str, str]:
    """What does not work: the error's first line for each of the subjects that ends in one."""
    failed = {}
    for subject in row.subjects:
        try:
            check(row, subject)
        except Exception as error:  # whatever PyTorch raises is the finding
            failed[subject] = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    print(f"{row.group}: {row.name}: {failed or 'works'}", file=sys.stderr, flush=True)
    return failed


def _sections(found: dict[Facility, dict[str, str]]) -> list[Section]:
    versions = f"PyTorch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, 1 thread"
    text = (
        "The layer and the networks give with each facility what they give without: the same logits, and where the "
        f"table says training, the same gradients. Tried with {versions}."
    )
    lines = [_line(row, failed) for row, failed in found.items() if not row.refused]
    refused = [[row.name, row.refused] for row, failed in found.items() if row.refused and failed]
    return [
        Section("Supported", text, Table(["", "Facility", "Layer", "Networks"], lines, text=True)),
        Section("Not supported", "Tried, and an error comes.", _reasons(refused)),
        Section("Not tried", "Nothing is known of these.", _reasons([list(pair) for pair in NOT_TRIED])),
    ]


def _reasons(rows: list[list[str]]) -> Table:
    return Table(["Facility", "Why, and what else there is"], rows, text=True)


def _line(row: Facility, failed: dict[str, str]) -> list[str]:
    networks = [subject for subject in row.subjects if subject != LAYER]
    layer = "-" if LAYER not in row.subjects else failed.get(LAYER, "yes")
    if wrong := {name: error for name, error in failed.items() if name != LAYER}:
        return [row.group, row.name, layer, "; ".join(f"{name}: {error}" for name, error in wrong.items())]
    whole = len(networks) == len(ALL) - 1
    return [row.group, row.name, layer, "all nine" if whole else ", ".join(networks) or "-"]


if __name__ == "__main__":
    sys.exit(main())
