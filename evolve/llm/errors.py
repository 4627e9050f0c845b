"""What can be wrong with a reply, or with there being none."""

from kvolve import KvolveError


class ReplyError(Exception):
    """There is no usable program in a reply.

    The message is for the model; `source` is what comes closest to a program.
    """

    def __init__(self, message: str, source: str = "") -> None:
        super().__init__(message)
        self.source = source


class NotRecordedError(KvolveError):
    """A run that is repeated asks for what the recorded one did not."""
