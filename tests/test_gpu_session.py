"""benchmarks/gpu_session.sh around its stages, which a stand-in for Python plays: what it records, and how it ends."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_session.sh"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell script")


@pytest.mark.parametrize("failing", ["no stage", "smoke", "networks", "-k graph"])
def test_the_status_says_whether_any_stage_failed(tmp_path: Path, failing: str) -> None:
    """Also one of the test shards, which run side by side."""
    python, results = tmp_path / "python", tmp_path / "results"
    python.write_text(f'#!/bin/sh\necho \'{{"found": 1}}\'\ncase "$*" in *"{failing}") exit 3 ;; esac\n')
    python.chmod(0o755)
    # Without the profilers that the script would use where it finds them.
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(python)}
    run = subprocess.run([SCRIPT, results], env=environment, capture_output=True, text=True)
    assert run.returncode == (failing != "no stage"), run.stderr
    lines = [json.loads(line) for line in (results / "results.jsonl").read_text().splitlines()]
    ended = {line["stage"]: line["exit"] for line in lines if "exit" in line}
    assert {"versions", "smoke", "speed", "variants", "test-graph", "blocks", "networks"} <= set(ended)
    assert sorted(ended.values())[-1] == (0 if failing == "no stage" else 3)
    assert len(lines) == 2 * len(ended), "what each stage printed, and how it ended"


def test_the_limits_of_all_stages_are_nine_minutes() -> None:
    """The checks run side by side, with one limit."""
    limits = re.findall(r"(?m)^ *(?:if .*then )?(?:measured |stage |checks=)(\d+)", SCRIPT.read_text())
    assert len(limits) == 10
    assert sum(map(int, limits)) <= 9 * 60
