"""Errors that the user can mend, whatever part of the application finds them."""


class UsageError(ValueError):
    """An option has an impossible value; the message names the option, the value and what was expected."""
