"""`boxconv cost`, as a user types it."""

import json

from boxconv.cli import main

SMALL = ["--size", "32", "48", "--rounds", "1"]


def test_text_has_a_row_for_each_network_and_for_each_block(capsys):
    assert main(["cost", "boxenet", "erfnet", *SMALL, "--blocks"]) == 0
    out = capsys.readouterr().out
    assert "242,539" in out
    assert "2,059,119" in out
    assert "stage2.15 BoxBottleneck" in out
    assert "32 x 48, batch 1, 19 classes; cpu, 1 thread" in out


def test_table_3_as_json(capsys):
    assert main(["cost", "--rounds", "0", "--format", "json"]) == 0
    content = json.loads(capsys.readouterr().out)
    found = {network["name"]: network for network in content["networks"]}
    assert len(found) == 9
    assert round(found["boxonlyenet"]["parameters"]["paper"] / 1e6, 3) == 0.124
    assert round(found["boxonlyenet"]["operations"]["paper"] / 1e9, 3) == 2.290
    assert found["boxonlyenet"]["milliseconds"] is None
    assert {block["name"] for block in found["boxonlyenet"]["blocks"]} > {"initial", "stage4.0", "head"}


def test_markdown_is_a_table(capsys):
    assert main(["cost", "enet", *SMALL, "--format", "markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| network")
    assert set(lines[1]) == set("|-: ")
    assert len({line.count("|") for line in lines[:3]}) == 1
