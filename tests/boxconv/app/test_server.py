"""The server of the page: its answers, and the requests that it refuses."""

import io
import os
import re
import sys
import threading
from typing import Any

import pytest
from data_trees import png
from PIL import Image
from werkzeug.test import Client, create_environ
from werkzeug.wrappers import Response

from boxconv.app import server
from boxconv.app.explorer import Explorer
from boxconv.app.server import MEGABYTES, Application, listening, serve
from boxconv.errors import UsageError


@pytest.fixture
def client(explorer: Explorer) -> Client:
    return Client(Application(explorer))


def failure(response: Response, status: int) -> str:
    """Check that a response is a failure with this status; returns its sentence."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.mimetype == "application/json"
    (sentence,) = response.json.values()  # type: ignore[union-attr]
    assert sentence
    assert "\n" not in sentence
    return str(sentence)


@pytest.mark.parametrize("path", server.FILES)
def test_the_page_needs_nothing_from_elsewhere(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert not set(re.findall(r"\w+://[^\s\"']+", response.text)) - {"http://www.w3.org/2000/svg"}  # an XML name
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; ")
    assert "frame-ancestors 'none'" in policy
    assert "Access-Control-Allow-Origin" not in response.headers


def test_every_question_has_an_answer(client: Client, explorer: Explorer, photo: bytes) -> None:
    assert client.get("/network").json == {**explorer.about(), "megabytes": MEGABYTES}
    labels = client.post("/labels", data=photo)
    assert labels.json == explorer.labels(photo)
    assert labels.headers["Cache-Control"] == "no-store"
    name = list(explorer.layers)[-1]
    place = {"row": "0.5", "column": "0.25"}
    assert client.get("/boxes", query_string={"layer": name, **place}).json == explorer.boxes(name, 0.5, 0.25)
    assert client.post("/context", query_string=place, data=photo).json == explorer.context(photo, 0.5, 0.25)


@pytest.mark.parametrize(
    "method, path",
    [("GET", "/labels"), ("POST", "/"), ("POST", "/boxes"), ("GET", "/page.py"), ("GET", "/../pictures")],
)
def test_unknown_paths(client: Client, method: str, path: str) -> None:
    assert f"there is nothing at {method}" in failure(client.open(path, method=method), 404)


def saved(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, kind, **options)
    return file.getvalue()


HOSTILE = {
    "nothing": (b"", "this file: the file is empty"),
    "text": (b"a note", "this file: the content is not an image of kind PNG"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "the content is not an image"),
    "PostScript, which Pillow would hand to another program": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is not an image"),
    "PDF": (saved("PDF"), "the content is not an image"),
    "half a photograph": (saved("JPEG")[:500], "this file: the file is damaged"),
    "a bomb": (png(60000, 60000, 8, bytes(99), colour=2), "this file: more than 67108864 pixels"),
    "a larger bomb": (png(2**31 - 1, 2**31 - 1, 8, bytes(99), colour=2), "this file: more than 67108864 pixels"),
    "a pixel too many": (png(2**13 + 1, 2**13, 8, bytes(99), colour=2), "8193 x 8192 pixels are more than 67108864"),
}


@pytest.mark.parametrize("path", ["/labels", "/context?row=0&column=0"])
@pytest.mark.parametrize("content, words", HOSTILE.values(), ids=HOSTILE)
def test_files_that_are_no_photograph(client: Client, path: str, content: bytes, words: str) -> None:
    assert words in failure(client.post(path, data=content), 400)


@pytest.mark.parametrize("path", ["/labels", "/context?row=0&column=0"])
def test_files_are_limited(client: Client, path: str) -> None:
    limit = MEGABYTES * 2**20
    assert "is not an image" in failure(client.post(path, data=bytes(limit)), 400)
    assert f"this file has more than {MEGABYTES} MB" in failure(client.post(path, data=bytes(limit + 1)), 413)
    chunked = client.post(path, data=bytes(99), headers={"Transfer-Encoding": "chunked"})
    assert "a file must come with its length" in failure(chunked, 411)


@pytest.mark.parametrize(
    "query, words",
    [
        ({"layer": "first.box", "row": 0, "column": 0}, "layer: expected one of "),
        ({"row": 0, "column": 0}, "layer: expected one of "),
        ({"layer": "LAYER", "row": -0.1, "column": 0}, "row and column must be at least 0 and less than 1"),
        ({"layer": "LAYER", "row": 0, "column": 1}, "row and column must be at least 0 and less than 1"),
        ({"layer": "LAYER", "row": "nan", "column": 0}, "row and column must be at least 0 and less than 1"),
        ({"layer": "LAYER", "row": 0}, "expected a row and a column"),
        ({"layer": "LAYER", "row": "top", "column": 0}, "expected a row and a column"),
    ],
)
def test_wrong_parameters_of_requests(client: Client, explorer: Explorer, query: dict[str, Any], words: str) -> None:
    if query.get("layer") == "LAYER":
        query = {**query, "layer": next(iter(explorer.layers))}
    assert words in failure(client.get("/boxes", query_string=query), 400)


OURS = "127.0.0.1:8000"
PATHS = [
    ("GET", "/"),
    ("GET", "/page.js"),
    ("GET", "/network"),
    ("GET", "/boxes"),
    ("POST", "/labels"),
    ("POST", "/context"),
]
ELSEWHERE: dict[str, dict[str, str]] = {
    "a form or script of another site": {"Host": OURS, "Origin": "https://example.org"},
    "a sandboxed frame": {"Host": OURS, "Origin": "null"},
    "another server of this machine": {"Host": OURS, "Origin": "http://127.0.0.1:9000"},
    "a domain that was led here": {"Host": "example.org:8000", "Origin": "http://example.org:8000"},
    "a domain that was led here, without an origin": {"Host": "example.org"},
    "a domain that looks like an address": {"Host": "127.0.0.1.example.org:8000"},
    "a domain in the place of the user": {"Host": "127.0.0.1@example.org"},
    "no host": {"Host": ""},
    "no sensible host": {"Host": "[127"},
}


@pytest.mark.parametrize("headers", ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.parametrize("method, path", PATHS)
def test_other_sites_are_refused(client: Client, method: str, path: str, headers: dict[str, str]) -> None:
    environ = create_environ(path, method=method, headers=headers)
    # Not by the client, which fails itself if the host is odd.
    sentence = failure(Response.from_app(client.application, environ), 403)
    assert re.search("another web site asked|this page is not at", sentence)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_only_link_to_the_page(client: Client, site: str) -> None:
    headers = {"Host": OURS, "Sec-Fetch-Site": site}
    assert client.get("/", headers=headers).status_code == 200
    for path in ("/page.js", "/network", "/boxes"):
        assert "another web site asked" in failure(client.get(path, headers=headers), 403)


@pytest.mark.parametrize("host", [OURS, "localhost:8000", "LocalHost", "[::1]:8000", "192.168.1.7:8000", "studio:8000"])
def test_the_page_itself_is_answered(explorer: Explorer, photo: bytes, host: str) -> None:
    client = Client(Application(explorer, "Studio"))
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/labels", data=photo, headers=headers).status_code == 200
    assert client.get("/", headers={"Host": host, "Sec-Fetch-Site": "none"}).status_code == 200


written: list[Any] = []
watching = False


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if watching and event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.append(arguments[0])


def test_nothing_is_written(client: Client, photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    sys.addaudithook(watch)  # audit hooks cannot be removed
    monkeypatch.setattr(sys.modules[__name__], "watching", True)
    with open(os.devnull, "w"):
        pass
    assert written == [os.devnull]
    for content in (photo, saved("TIFF"), saved("WEBP"), saved("GIF"), photo * 200):
        assert client.post("/labels", data=content).status_code == 200
        assert client.post("/context?row=0&column=0", data=content).status_code == 200
    assert written == [os.devnull]


class Watched:
    """Takes the place of an explorer."""

    application: Application
    error: Exception | None = None

    def labels(self, content: bytes) -> dict[str, Any]:
        assert self.application.working.locked()
        if self.error is not None:
            raise self.error
        return {"length": len(content)}


@pytest.fixture
def watched() -> Watched:
    explorer = Watched()
    explorer.application = Application(explorer)  # type: ignore[arg-type]
    return explorer


def test_one_photograph_at_a_time(watched: Watched) -> None:
    assert Client(watched.application).post("/labels", data=b"four").json == {"length": 4}
    assert not watched.application.working.locked()


def test_after_the_end_nothing_is_begun(watched: Watched) -> None:
    watched.application.end()
    assert "has been ended" in failure(Client(watched.application).post("/labels", data=b"four"), 503)


def test_the_end_waits_for_threads_that_clear_up(watched: Watched) -> None:
    """Only so long, because a browser may keep a connection open."""
    stop = threading.Event()
    soon, late = threading.Thread(target=stop.wait, args=(0.3,)), threading.Thread(target=stop.wait, daemon=True)
    for thread in (soon, late):
        thread.start()
    watched.application.end()
    assert (soon.is_alive(), late.is_alive()) == (False, True)
    stop.set()


def test_faults_of_the_program(watched: Watched, capsys: pytest.CaptureFixture[str]) -> None:
    client = Client(watched.application)
    watched.error = KeyError("a fault")
    assert "the terminal in which boxconv runs says what" in failure(client.post("/labels"), 500)
    assert "KeyError: 'a fault'" in capsys.readouterr().err
    watched.error = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    assert "not enough memory" in failure(client.post("/labels"), 500)
    assert not capsys.readouterr().err
    assert not watched.application.working.locked()


class Ready(Exception):
    pass


@pytest.mark.parametrize(
    "host, address, local",
    [
        ("127.0.0.1", r"http://127\.0\.0\.1:\d+/", True),
        ("localhost", r"http://localhost:\d+/", True),
        ("0.0.0.0", r"http://127\.0\.0\.1:\d+/", False),
        ("::1", r"http://\[::1\]:\d+/", True),
    ],
)
def test_where_it_listens(watched: Watched, host: str, address: str, local: bool) -> None:
    said: list[tuple[str, bool]] = []

    def ready(*what: Any) -> None:
        said.append(what)
        raise Ready

    watched.application.host = host
    with pytest.raises(Ready):
        serve(watched.application, 0, ready)
    ((where, only_here),) = said
    assert re.fullmatch(address, where)
    assert only_here is local


def test_a_host_that_does_not_exist(watched: Watched) -> None:
    watched.application.host = "no such host"
    with pytest.raises(UsageError, match="--host no such host --port 0: cannot listen there: "):
        listening(watched.application, 0)
