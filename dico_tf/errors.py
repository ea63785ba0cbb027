"""The one exception a user's mistake raises: a script prints its message and exits with status 2."""


class UserError(Exception):
    """Names the value received, why it cannot be, and what would do."""
