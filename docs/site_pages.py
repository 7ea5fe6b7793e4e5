"""What `make docs` adds to MkDocs: pages from outside docs/, the tutorial as a page, formulas without a script.

README.md becomes the first page. Its links, and those of all pages, lead to the same files as in the repository; files
that are not pages are copied into the site.
"""

import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Pages of the site that do not lie in docs/, and their files.
PAGES = {
    "index.md": "README.md",
    "tutorial.md": "examples/tutorial.ipynb",
    "pretrained.md": "box_convolution/pretrained/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
PLACES = {source: place for place, source in PAGES.items()}
NOT_SHOWN = (".py", ".json", ".csv")  # as exclude_docs in mkdocs.yml

_LINK = re.compile(r"\]\(([^)\s:#]+)((?:#[^)\s]*)?)\)")  # to a file of the repository: no address, no place on the page
_BADGE = re.compile(r"^!\[([^\]]*)\]\(https://img\.shields\.io/[^)]*\)$", re.MULTILINE)
_FORMULA = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for place, source in PAGES.items():
        path = ROOT / source
        text = page_of_notebook(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=text))
    for page in list(files.documentation_pages()):
        for target, _ in _LINK.findall(_FENCED.sub("", page.content_string)):
            source = linked(page.src_uri, target)
            place = place_of(source)
            if files.get_file_from_path(place) is None and (ROOT / source).is_file():
                files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        place = place_of(linked(here, link[1]))
        return f"]({posixpath.relpath(place, posixpath.dirname(here) or '.')}{link[2]})"

    def formula(found: re.Match[str]) -> str:
        return convert(" ".join(found[1].split()), display="block")

    markdown = _BADGE.sub(r"`\1`", markdown)  # nothing is fetched
    return outside_code(markdown, lambda text: _FORMULA.sub(formula, _LINK.sub(moved, text)))


def linked(page: str, target: str) -> str:
    """The file of the repository that a link on a page of the site means."""
    folder = posixpath.dirname(PAGES.get(page, f"docs/{page}"))
    return posixpath.normpath(posixpath.join(folder, target))


def place_of(source: str) -> str:
    """Where a file of the repository lies in the site."""
    if source in PLACES:
        return PLACES[source]
    shown = source.startswith("docs/") and not source.endswith(NOT_SHOWN)
    return source.removeprefix("docs/") if shown else f"files/{source}"


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """``markdown`` with everything changed but its blocks of code."""
    parts, end = [], 0
    for code in _FENCED.finditer(markdown):
        parts += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(markdown[end:])])


def page_of_notebook(path: Path) -> str:
    """The cells of a notebook, and what they printed and drew, as Markdown."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        for output in cell["outputs"]:
            picture = output.get("data", {}).get("image/png")
            if picture is not None:
                parts.append(f"![](data:image/png;base64,{''.join(picture).strip()})")
            else:
                printed = "".join(output["text"]).rstrip()
                parts.append(f"```text\n{printed}\n```")
    return "\n\n".join(parts) + "\n"
