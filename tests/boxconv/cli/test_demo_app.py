"""`boxconv demo-app`: where it listens, what it prints, how it ends."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from command import boxconv

from boxconv.app import server
from boxconv.app.server import Application, listening


def test_from_start_to_end(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "boxconv", "demo-app", "--port", "0"]
    with subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            said = program.stdout.readline()
            address = re.fullmatch(r"(http://127\.0\.0\.1:\d+/) \(ctrl-C ends it\)\n", said)
            assert address is not None, said
            with urlopen(address[1] + "network", timeout=60) as answer:
                assert b'"name": "boxenet-camvid"' in answer.read()
            program.send_signal(signal.SIGINT)
            assert program.communicate(timeout=60) == ("\n", "")
            assert program.returncode == 0
        finally:
            program.kill()
    assert not list(tmp_path.iterdir())


def test_a_server_that_others_reach_is_warned_of(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.BaseWSGIServer, "serve_forever", lambda self: None)
    status, out, err = boxconv(capsys, "demo-app", "boxonlyenet-camvid", "--host", "0.0.0.0", "--port", "0")
    assert status == 0
    assert re.match(r"http://127\.0\.0\.1:\d+/ ", out)
    assert "boxconv: warning: whoever reaches this machine over the network can use the page" in err
    status, _, err = boxconv(capsys, "demo-app", "--port", "0")
    assert (status, err) == (0, "")


def test_a_port_that_is_taken(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boxconv.cli.demo_app.open_layers", None)  # refused before anything is opened
    with listening(Application(None), 0) as taken:  # type: ignore[arg-type]
        status, _, err = boxconv(capsys, "demo-app", "--port", taken.port)
    assert status == 2
    assert err == (
        f"boxconv: error: --host 127.0.0.1 --port {taken.port}: cannot listen there: Address already in use; give "
        "another --port, or 0 for any that is free\n"
    )
