"""The table of machines, compilers and versions in docs/compatibility.md: what ran, where and when.

Commands that test something record it with `record`, in docs/compatibility.json. `python
tests/compatibility_table.py` writes the table.
"""

import datetime
import json
import platform
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "compatibility.json"
PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- machines: begin -->", "<!-- machines: end -->"
KINDS = {"machine": "Machines", "compiler": "Compilers", "python": "Python", "versions": "Versions together"}


def record(kind: str, name: str, result: str, kept: Path = KEPT) -> None:
    """Record a result. It replaces an earlier one of the same ``kind`` and ``name`` on this machine."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    entries = json.loads(kept.read_text()) if kept.exists() else []
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    new = {"kind": kind, "name": name, "result": result, "date": date, "machine": machine()}
    same = ("kind", "name", "machine")
    entries = [entry for entry in entries if any(entry[key] != new[key] for key in same)]
    kept.write_text(json.dumps([*entries, new], indent=2) + "\n")


def machine() -> str:
    """Processor and system."""
    processors = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.*)", processors)
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.platform(terse=True)
    return f"{model[1] if model else platform.machine()}, {system}"


def table(entries: list[dict[str, str]]) -> str:
    """Markdown, one row for each entry."""
    rows = ["| | what ran | when | on |", "|---|---|---|---|"]
    for kind, title in KINDS.items():
        found = sorted((entry for entry in entries if entry["kind"] == kind), key=lambda entry: entry["name"])
        rows += [f"| **{title}** | | | |"] if found else []
        rows += [f"| {' | '.join(entry[key] for key in ('name', 'result', 'date', 'machine'))} |" for entry in found]
    return "\n".join(rows)


def written(page: str, entries: list[dict[str, str]]) -> str:
    """``page`` with the table between its two comments."""
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"expected {BEGIN} and, after it, {END}")
    return f"{before}{BEGIN}\n{table(entries)}\n{END}{after}"


def main() -> None:
    entries = json.loads(KEPT.read_text())
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), entries), encoding="utf-8")
    print(f"{len(entries)} rows written to {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
