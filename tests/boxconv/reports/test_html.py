"""The report is one file without external parts, shows texts as they are, and is written completely or not at all."""

import base64
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from boxconv.reports.html import Picture, Section, Table, write_report

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "dot.png"
    path.write_bytes(PNG)
    return path


class Page(HTMLParser):
    """The tags of a page with their attributes, whether they are nested correctly, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def write(folder: Path, *sections: Section, title: str = "A run", summary: dict[str, str] | None = None) -> Page:
    path = write_report(folder, title=title, summary=summary or {}, sections=sections)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_everything_given_is_on_the_page(tmp_path, png):
    page = write(
        tmp_path / "new" / "folder",
        Section("Scores", "First.\n\nSecond\nline.", Table(["name"], [["91.2"]]), [Picture(png, "a dot")]),
        Section("Boxes"),
        summary={"class IoU": "61.8 %"},
    )
    for text in ("A run", "Scores", "First.", "Second\nline.", "class IoU", "61.8 %", "name", "91.2", "Boxes"):
        assert text in page.text
    assert len(page.all("p")) == 2
    assert page.all("img")[0]["alt"] == "a dot"
    assert base64.b64decode(page.all("img")[0]["src"].removeprefix("data:image/png;base64,")) == PNG


def test_nothing_is_loaded_from_elsewhere(tmp_path, png):
    sections = [Section(f"Part {i}", pictures=[Picture(png, "a dot")]) for i in range(3)]
    page = write(tmp_path, *sections)
    assert not {"link", "script", "iframe"} & {tag for tag, _ in page.tags}
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    assert [link["href"] for link in page.all("a")] == ["#section-1", "#section-2", "#section-3"]
    assert [section["id"] for section in page.all("section")] == ["section-1", "section-2", "section-3"]
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|@import|dot\.png", html)
    assert 'name="viewport"' in html


def test_texts_that_look_like_html_are_shown(tmp_path, png):
    nasty = """<script>alert("1")</script> & 'x' </style>"""
    page = write(
        tmp_path,
        Section(nasty, nasty, Table([nasty], [[nasty]]), [Picture(png, nasty)]),
        title=nasty,
        summary={nasty: nasty},
    )
    assert not page.all("script")
    assert page.all("img")[0]["alt"] == nasty
    assert page.text.count(nasty) == 9  # title twice, summary twice, heading, paragraph, caption, header, cell


def test_columns_of_numbers_are_aligned_right(tmp_path):
    page = write(tmp_path, Section("s", table=Table(["name", "IoU"], [["car", "3.5 %"], ["2", "—"]])))
    assert [cell.get("class") for cell in page.all("td")] == [None, "number"] * 2
    assert [cell.get("class") for cell in page.all("th")] == [None, "number"]


def test_jpeg_is_recognised_by_its_content(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"\xff\xd8\xff\xe0 rest")
    [image] = write(tmp_path, Section("s", pictures=[Picture(path, "photo")])).all("img")
    assert image["src"].startswith("data:image/jpeg")


def test_bad_input_is_named_and_keeps_the_old_report(tmp_path, png):
    write(tmp_path, title="old")
    text = tmp_path / "text.png"
    text.write_text("no picture")
    cases = [
        (FileNotFoundError, "missing.png", Section("s", pictures=[Picture(tmp_path / "missing.png", "c")])),
        (ValueError, "text.png is neither", Section("s", pictures=[Picture(text, "c")])),
        (ValueError, "dot.png needs a caption", Section("s", pictures=[Picture(png, " ")])),
        (ValueError, "table of section 'Scores' has 2 columns", Section("Scores", table=Table(["a", "b"], [["1"]]))),
    ]
    for error, message, section in cases:
        with pytest.raises(error, match=message):
            write(tmp_path, section)
    with pytest.raises(ValueError, match="title"):
        write(tmp_path, title="")
    assert "<h1>old</h1>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_an_interrupted_write_leaves_no_trace(tmp_path, monkeypatch):
    write(tmp_path, title="old")

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, title="new")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "<h1>old</h1>" in (tmp_path / "report.html").read_text(encoding="utf-8")
