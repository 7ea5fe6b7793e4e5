"""The table of docs/compatibility.md, which a command writes from results that other commands recorded."""

import json

import compatibility_table
import pytest
from compatibility_table import KEPT, PAGE, record, table, written


def test_what_runs_again_replaces_what_is_kept(tmp_path):
    kept = tmp_path / "kept.json"
    record("compiler", "g++ 12", "failed", kept)
    record("machine", "arm64", "passes", kept)
    record("compiler", "g++ 12", "passes", kept)
    entries = json.loads(kept.read_text())
    assert [(entry["name"], entry["result"]) for entry in entries] == [("arm64", "passes"), ("g++ 12", "passes")]
    assert all(entry["date"] and entry["machine"] for entry in entries)
    with pytest.raises(ValueError, match="kind must be one of machine, compiler"):
        record("planet", "Mars", "passes", kept)


def test_the_table():
    entries = [
        {"kind": "versions", "name": "torch 2.6", "result": "90 passed", "date": "2026-01-02", "machine": "a"},
        {"kind": "compiler", "name": "g++", "result": "passes", "date": "2026-01-01", "machine": "b"},
    ]
    lines = table(entries).splitlines()
    assert lines[2:] == [
        "| **Compilers** | | | |",
        "| g++ | passes | 2026-01-01 | b |",
        "| **Versions together** | | | |",
        "| torch 2.6 | 90 passed | 2026-01-02 | a |",
    ]
    assert written(f"x {compatibility_table.BEGIN} old {compatibility_table.END} y", entries).endswith(" y")
    with pytest.raises(ValueError, match="expected <!-- machines: begin -->"):
        written("no comments", entries)


def test_the_page_holds_what_is_kept():
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page, json.loads(KEPT.read_text()))
