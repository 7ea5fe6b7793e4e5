"""Run the command line in this process, which is much faster than starting a new one."""

from boxconv.cli import main


def boxconv(capsys, *arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command. Fails if there is a traceback."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def printed(capsys, *arguments: object) -> tuple[int, str]:
    """Exit status and all output of a command."""
    status, out, errors = boxconv(capsys, *arguments)
    return status, out + errors
