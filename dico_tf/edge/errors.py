"""Errors that a client receives: a gRPC status code and a sentence."""

from typing import Any

HTTP = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "UNSUPPORTED_MEDIA_TYPE": 415,  # only over HTTP; gRPC has no such code
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}  # the HTTP status of each gRPC code, as in Google's APIs; any other code is 500
_QUOTED = 60  # most characters of a client's value that an error repeats


class EdgeError(Exception):
    """An error for the client. The sentence reveals no path of this host.

    `code` is the name of a grpc.StatusCode, or UNSUPPORTED_MEDIA_TYPE over HTTP.
    """

    def __init__(self, code: str, sentence: str):
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return HTTP.get(self.code, 500)


def invalid(sentence: str) -> EdgeError:
    """Return the error INVALID_ARGUMENT for a request that the client must change."""
    return EdgeError("INVALID_ARGUMENT", sentence)


def not_found(what: str, name: str, available: str) -> EdgeError:
    """Return the error NOT_FOUND for a name that this server does not have.

    `what` is the kind of thing, e.g. "model"; `available` says which ones the server has.
    """
    return EdgeError("NOT_FOUND", f"unknown {what} {name[:_QUOTED]!r}: this server has {available}")


def quote(value: Any) -> str:
    """Return the repr of a client's value, cut to about 60 characters for an error sentence."""
    cut = value[:_QUOTED] if isinstance(value, str | bytes | list | tuple) else value
    text = repr(cut)
    return text if len(text) <= _QUOTED + 2 else text[:_QUOTED] + "..."
