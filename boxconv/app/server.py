"""The web server of the page: its answers, and its limits on the size and the origin of requests.

It is meant for the user of this machine. A file is processed in memory and not stored.
"""

import errno
import json
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    LengthRequired,
    NotFound,
    RequestEntityTooLarge,
    ServiceUnavailable,
)
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from ..data.class_table import DataError
from ..errors import UsageError
from ..training.device import is_out_of_memory
from .explorer import Explorer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MEGABYTES = 32
"""Size of the largest file that is accepted. The image reader limits its pixels."""

FOLDER = Path(__file__).parent / "page"
FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}

HEADERS = {
    # The browser loads nothing from other servers for this page, and other sites cannot show it in a frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Question(Request):
    max_content_length = MEGABYTES * 2**20


class Application:
    """A WSGI application. ``host``: name or address of this machine under which it is reached.

    All answers except the files of the page are JSON; after an error the answer is {"error": one sentence}.
    """

    def __init__(self, explorer: Explorer, host: str = "127.0.0.1") -> None:
        self.explorer = explorer
        self.host = host
        self.working = threading.Lock()
        self.ended = False
        self.files = {path: ((FOLDER / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}
        self.answers: dict[tuple[str, str], Callable[[Question], dict[str, Any]]] = {
            ("GET", "/network"): lambda question: {**explorer.about(), "megabytes": MEGABYTES},
            ("GET", "/boxes"): lambda question: explorer.boxes(question.args.get("layer", ""), *_place(question)),
            ("POST", "/labels"): lambda question: explorer.labels(question.get_data()),
            ("POST", "/context"): lambda question: explorer.context(question.get_data(), *_place(question)),
        }

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        question = Question(environ)
        try:
            check_sender(question, self.host)
            response = self._answer(question)
        except (DataError, UsageError) as error:
            response = _failure(400, str(error))
        except RequestEntityTooLarge:
            response = _failure(413, f"this file has more than {MEGABYTES} MB")
        except HTTPException as error:
            response = _failure(error.code or 500, error.description or error.name)
        except Exception as error:
            if is_out_of_memory(error):
                response = _failure(500, "there is not enough memory for this photograph: try a smaller one")
            else:
                traceback.print_exc()
                response = _failure(500, "something went wrong: the terminal in which boxconv runs says what")
        response.headers.extend(HEADERS)
        return response(environ, start_response)

    def _answer(self, question: Question) -> Response:
        if question.method == "GET" and question.path in self.files:
            content, kind = self.files[question.path]
            return Response(content, mimetype=kind)
        answer = self.answers.get((question.method, question.path))
        if answer is None:
            raise NotFound(f"there is nothing at {question.method} {question.path}")
        if "Transfer-Encoding" in question.headers:  # only the beginning of such a body would be read
            raise LengthRequired("a file must come with its length")
        question.get_data()  # before the lock, so that a slow upload does not block other requests
        with self.working:
            if self.ended:
                raise ServiceUnavailable("boxconv demo-app has been ended")
            return Response(json.dumps(answer(question)), mimetype="application/json")

    def end(self) -> None:
        """Refuse new requests, and wait for the running one and for the threads of those that have been answered.

        Python cannot exit while a thread is inside PyTorch, nor while it clears up what PyTorch keeps for each thread:
        either aborts the process. A thread whose browser keeps the connection open does neither, and is not waited for.
        """
        self.ended = True
        with self.working:
            pass
        until = time.monotonic() + 1.0
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))


def check_sender(question: Question, host: str) -> None:
    """Raise Forbidden unless the request comes from the page itself: other web sites can make a browser send requests.

    Such a request names the other site as its origin. A site could also point its own domain to this server (DNS
    rebinding) and so have the same origin, but then the request is addressed to that domain. Therefore it must be
    addressed to an IP address, to localhost or to ``host``.
    """
    addressed = question.headers.get("Host", "")
    try:
        name = urlsplit(f"//{addressed}").hostname or ""
        known = name in ("localhost", host.lower()) or ip_address(name) is not None
    except ValueError:
        known = False
    if not known:
        raise Forbidden(f"this page is not at {addressed!r}: open it by its address, or give the name to --host")
    foreign = question.headers.get("Origin", f"http://{addressed}") != f"http://{addressed}"
    if foreign or (question.path != "/" and question.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")):
        raise Forbidden("another web site asked, which may not use this page")


def serve(application: Application, port: int, ready: Callable[[str, bool], object]) -> None:
    """Answer requests until ctrl-C.

    Args:
        port: 0 means any free port.
        ready: called when the server is ready, with the page's address and whether only this machine can reach it.

    Raises UsageError if the server cannot listen at this host and port.
    """
    with listening(application, port) as server:
        address, host = ip_address(str(server.server_address[0])), application.host
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        ready(f"http://{f'[{name}]' if ':' in name else name}:{server.port}/", address.is_loopback)
        server.serve_forever()  # ctrl-C ends it
        application.end()


def listening(application: Application, port: int) -> BaseWSGIServer:
    """A server that accepts connections now, and answers them when its `serve_forever` is called."""
    host = application.host
    with listen(host, port) as listener:
        return make_server(host, port, application, threaded=True, request_handler=_Connection, fd=listener.fileno())


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at this host and port. Raises UsageError if that is impossible."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        advice = "; give another --port, or 0 for any that is free" if error.errno == errno.EADDRINUSE else ""
        raise UsageError(f"--host {host} --port {port}: cannot listen there: {reason}{advice}") from error


class _Connection(WSGIRequestHandler):
    timeout = 30
    """Seconds without data after which a connection is closed."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Print nothing: the terminal should show errors of the program only."""


def _place(question: Question) -> tuple[float, float]:
    row, column = (question.args.get(name, type=float) for name in ("row", "column"))
    if row is None or column is None:
        raise BadRequest("expected a row and a column, two numbers")
    return row, column


def _failure(status: int, sentence: str) -> Response:
    return Response(json.dumps({"error": " ".join(sentence.split())}), status, mimetype="application/json")
