"""What `boxconv COMMAND --help` says."""

import pytest

from boxconv.cli import main
from boxconv.cli.commands import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_what_may_be_left_out_has_no_value(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert "None" not in text
    assert "(default: )" not in text
    assert not [line for line in text.splitlines() if "{INT" in line or "{FLOAT" in line or "{[" in line]


def test_values_are_shown(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--recipe", "cityscapes-boxenet", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: 512 1024)" in text
    assert "(default: 600 780 880 960 1040 1120 1200 1260)" in text
    assert "--crop INT INT" in text
