"""Errors that a user can correct; every part of the application may raise them."""


class UsageError(ValueError):
    """An option has an impossible value; the message names the option, the value and what was expected."""
