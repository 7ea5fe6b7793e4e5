"""What `boxconv COMMAND --help` says."""

import dataclasses

import pytest

from box_convolution.networks import names
from boxconv.cli import main
from boxconv.cli.commands import COMMANDS, _describe


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


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_is_explained(command):
    kind, _ = COMMANDS[command]
    _describe(kind)
    assert not [field.name for field in dataclasses.fields(kind) if not field.metadata.get("help")]


@pytest.mark.parametrize(
    "line", ["train --foo", "train --lr abc", "train --epochs", "check_data --foo", "predict --tile x"]
)
def test_errors_name_the_help_of_the_command(line, capsys):
    with pytest.raises(SystemExit):
        main(line.split())
    assert f"boxconv {line.split()[0].replace('_', '-')} --help" in capsys.readouterr().err


def test_the_help_names_the_networks(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"One of {', '.join(names())}." in text


def test_values_are_shown(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--recipe", "cityscapes-boxenet", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: 512 1024)" in text
    assert "(default: 600 780 880 960 1040 1120 1200 1260)" in text
    assert "--crop INT INT" in text
