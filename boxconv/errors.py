"""What goes wrong by the user's making, whatever part of the application finds it."""


class UsageError(ValueError):
    """An option has a value it cannot have; the message names the option, the value and what was expected."""
