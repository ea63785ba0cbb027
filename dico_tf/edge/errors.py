"""What is answered to whoever asked for what cannot be: a code of gRPC and a sentence."""

from typing import Any

HTTP = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "UNSUPPORTED_MEDIA_TYPE": 415,  # which only HTTP has
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}  # the statuses that Google's APIs give these codes; what is not listed is 500
_SHOWN = 60  # characters of a value that are said back


class EdgeError(Exception):
    """`code` is the name of a grpc.StatusCode; the sentence names no path and nothing else of this host."""

    def __init__(self, code: str, sentence: str):
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence

    @property
    def status(self) -> int:
        """Of HTTP."""
        return HTTP.get(self.code, 500)


def invalid(sentence: str) -> EdgeError:
    return EdgeError("INVALID_ARGUMENT", sentence)


def shown(value: Any) -> str:
    """A stranger's value as it may stand in a sentence."""
    cut = value[:_SHOWN] if isinstance(value, str | bytes | list | tuple) else value
    text = repr(cut)
    return text if len(text) <= _SHOWN + 2 else text[:_SHOWN] + "..."
