"""Test every facility of PyTorch in the table with the layer and all networks.

`make compatibility` writes docs/compatibility.md in about ten minutes. The test suite tests the same table, without the
rows that take minutes (`test_facilities.py`).
"""

import argparse
import platform
import sys
import warnings
from pathlib import Path

import torch
from facilities import ALL, FACILITIES, LAYER, Facility, check

from boxconv.reports.tables import Section, Table, write_sections

COMMAND = "facilities"
NOT_TRIED = (
    (
        'these facilities on a GPU, and `mode="reduce-overhead"` there; ROCm',
        "tested on a CPU; on an H200, the tests of the operator, training and CUDA graphs ran",
    ),
    ("quantisation of graphs (`torch.ao` `prepare_fx`, torchao)", "deprecated in PyTorch, or a package of its own"),
    ("Captum and torchvision's `create_feature_extractor`", "the hooks and graphs that they use are tested above"),
    ("MPS, XPU, XLA", "no such device"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="Markdown file for the tables")
    parser.add_argument("--only", default="", help="test only facilities whose group or name has these words")
    parser.add_argument("--quick", action="store_true", help="only what the test suite tests")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = [row for row in FACILITIES if args.only in f"{row.group}: {row.name}"]
    found = {row: _try(row, tried) for row in rows if (tried := _subjects(row, args.quick))}
    sections = _sections(found, args.quick)
    for section in sections:
        print(section.plain())
    if args.write:
        write_sections(args.write, COMMAND, sections, level=3)
    return int(any(bool(failed) != bool(row.refused) for row, failed in found.items()))


def _subjects(row: Facility, quick: bool) -> list[str]:
    return [subject for subject in row.subjects if not quick or subject in row.in_tests]


def _try(row: Facility, subjects: list[str]) -> dict[str, str]:
    """The beginning of the error for each subject that the facility fails with."""
    failed = {}
    for subject in subjects:
        try:
            check(row, subject)
        except Exception as error:  # PyTorch may raise anything; it is the result
            failed[subject] = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    print(f"{row.group}: {row.name}: {failed or 'works'}", file=sys.stderr, flush=True)
    return failed


def _sections(found: dict[Facility, dict[str, str]], quick: bool) -> list[Section]:
    versions = f"PyTorch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, 1 thread"
    text = (
        "With and without each facility, the layer and the networks give the same logits and, where the table says "
        f"training, the same gradients. `-`: not tested. Tested with {versions}."
    )
    lines = [_line(row, _subjects(row, quick), failed) for row, failed in found.items() if not row.refused]
    refused = [[row.name, row.refused] for row, failed in found.items() if row.refused and failed]
    left_out = [[row.name, "takes minutes: left out by --quick"] for row in FACILITIES if quick and not row.in_tests]
    not_tried = _reasons([*left_out, *(list(pair) for pair in NOT_TRIED)])
    return [
        Section("Supported", text, Table(["", "Facility", "Layer", "Networks"], lines, text=True)),
        Section("Not supported", "Each was tried and raises an error.", _reasons(refused)),
        Section("Not tested", "We do not know whether these work.", not_tried),
    ]


def _reasons(rows: list[list[str]]) -> Table:
    return Table(["Facility", "Reason, and alternatives"], rows, text=True)


def _line(row: Facility, subjects: list[str], failed: dict[str, str]) -> list[str]:
    networks = [subject for subject in subjects if subject != LAYER]
    layer = "-" if LAYER not in subjects else failed.get(LAYER, "yes")
    if wrong := {name: error for name, error in failed.items() if name != LAYER}:
        return [row.group, row.name, layer, "; ".join(f"{name}: {error}" for name, error in wrong.items())]
    whole = len(networks) == len(ALL) - 1
    return [row.group, row.name, layer, "all nine" if whole else ", ".join(networks) or "-"]


if __name__ == "__main__":
    sys.exit(main())
