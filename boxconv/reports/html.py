"""A report as one HTML file, which contains its style and pictures and loads nothing else."""

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..files import write_atomic
from .tables import Picture, Section, Table

SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
NUMBER = re.compile(r"[-−+]?[\d.,]+\s*(%|px|ms|s|M|k|GB|MB|x|×)?|[-–—]|")
STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f9; color: #1f2430; font: 16px/1.55 system-ui, Helvetica, Arial, sans-serif; }
main { max-width: 68rem; min-height: 100vh; margin: 0 auto; padding: 2.5rem clamp(1rem, 4vw, 3rem) 4rem; }
main { background: #fff; }
h1 { margin: 0 0 1.25rem; font-size: 1.9rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .75rem; padding-top: 1.25rem; border-top: 1px solid #e3e6eb; font-size: 1.3rem; }
p { max-width: 44rem; margin: 0 0 1rem; }
dl { display: flex; flex-wrap: wrap; gap: .75rem; margin: 0 0 1.5rem; }
dl div { flex: 1 1 9rem; padding: .7rem .9rem; border: 1px solid #e3e6eb; border-radius: .5rem; }
dt { color: #6b7280; font-size: .82rem; }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
nav { margin: 0 0 1rem; }
nav a { margin-right: 1.1rem; color: #2b6cb0; white-space: nowrap; text-decoration: none; }
nav a:hover { text-decoration: underline; }
figure { margin: 1.25rem 0; }
figure div, .table { overflow-x: auto; }
img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: .4rem; color: #6b7280; font-size: .88rem; }
.table { margin: 1rem 0; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .9rem .38rem 0; border-bottom: 1px solid #e3e6eb; text-align: left; vertical-align: top; }
th { border-bottom-color: #9aa1ac; font-weight: 600; white-space: nowrap; }
.number { padding-left: 1.1rem; text-align: right; white-space: nowrap; }
@media screen and (max-width: 42rem) { img { max-width: none; width: 40rem; } }
@media print { body { background: #fff; } main { padding: 0; } figure, tr { break-inside: avoid; } }
"""


def write_report(
    folder: str | Path,
    *,
    title: str,
    summary: dict[str, str],
    sections: Sequence[Section],
    refresh: int | None = None,
) -> Path:
    """Write `folder`/report.html and return its path. The folder is created; an older report is replaced.

    summary: the few facts at the top, by name. refresh: seconds after which a browser loads the page again.

    All texts are plain text; HTML in them is shown as it is. Raises FileNotFoundError for a picture that does not
    exist, and ValueError for an empty title or caption, a file that is not a PNG, JPEG or GIF picture, or a row that
    does not fit its header. An older report is then unchanged.
    """
    if not title.strip():
        raise ValueError("title must not be empty")
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>\n" for name, value in summary.items())
    links = "".join(f'<a href="#section-{i}">{escape(s.title)}</a>\n' for i, s in enumerate(sections, start=1))
    parts = [
        beginning(title, "" if refresh is None else f'<meta http-equiv="refresh" content="{refresh}">\n'),
        f"<dl>\n{facts}</dl>" if facts else "",
        f"<nav>\n{links}</nav>" if len(sections) > 2 else "",
        *(_section(section, i) for i, section in enumerate(sections, start=1)),
        "</main></body>\n</html>\n",
    ]
    path = Path(folder) / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "\n".join(filter(None, parts)))
    return path


def beginning(title: str, more: str = "", more_style: str = "") -> str:
    """A page up to its heading; ``more`` elements of its head, and ``more_style``."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n{more}'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{more_style}</style></head>\n<body><main>\n<h1>{escape(title)}</h1>"
    )


def _section(section: Section, number: int) -> str:
    paragraphs = [text.strip() for text in re.split(r"\n\s*\n", section.text) if text.strip()]
    return "\n".join(
        [
            f'<section id="section-{number}">\n<h2>{escape(section.title)}</h2>',
            *(f"<p>{escape(text)}</p>" for text in paragraphs),
            *(_picture(picture) for picture in section.pictures),
            *([_table(section.table, section.title)] if section.table else []),
            "</section>",
        ]
    )


def _picture(picture: Picture) -> str:
    path = Path(picture.path)
    if not path.is_file():
        raise FileNotFoundError(f"picture {path} does not exist")
    data = path.read_bytes()
    kind = next((kind for signature, kind in SIGNATURES.items() if data.startswith(signature)), None)
    if kind is None:
        raise ValueError(f"picture {path} is neither PNG, JPEG nor GIF")
    if not picture.caption.strip():
        raise ValueError(f"picture {path} needs a caption: without one it says nothing to those who cannot see it")
    source = f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
    caption = escape(picture.caption)
    # In narrow windows, pictures and tables scroll sideways in their frames; tabindex makes this possible by keyboard.
    return (
        f'<figure>\n<div tabindex="0"><img src="{source}" alt="{caption}"></div>\n'
        f'<figcaption aria-hidden="true">{caption}</figcaption>\n</figure>'
    )


def _table(table: Table, heading: str) -> str:
    for row in table.rows:
        if len(row) != len(table.header):
            raise ValueError(f"table of section {heading!r} has {len(table.header)} columns, found the row {list(row)}")
    numeric = [all(NUMBER.fullmatch(row[j].strip()) for row in table.rows) for j in range(len(table.header))]

    def cells(tag: str, values: Sequence[str]) -> str:
        kinds = [' class="number"' if number else "" for number in numeric]
        inner = "".join(f"<{tag}{kind}>{escape(v)}</{tag}>" for kind, v in zip(kinds, values, strict=True))
        return f"<tr>{inner}</tr>"

    body = "\n".join(cells("td", row) for row in table.rows)
    return (
        f'<div class="table" tabindex="0"><table>\n<thead>{cells("th", table.header)}</thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
