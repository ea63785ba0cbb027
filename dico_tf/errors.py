"""The exception for mistakes of the user. A command prints its message and exits with status 2."""


class UserError(Exception):
    """A mistake of the user; the message names the value, what is wrong with it, and what to do instead."""
