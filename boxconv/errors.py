"""Errors that a user can correct; every part of the application may raise them. And numbers in messages."""


class UsageError(ValueError):
    """An option has an impossible value; the message names the option, the value and what was expected."""


def plural(count: int, word: str) -> str:
    """A number of things: "1 class", "2 classes"."""
    return f"{count} {word}" + ("" if count == 1 else "es" if word.endswith("s") else "s")
