"""What a model is told when no program can be made of its reply."""


class ReplyError(Exception):
    """There is no usable program in a reply.

    The message is for the model; `source` is what comes closest to a program.
    """

    def __init__(self, message: str, source: str = "") -> None:
        super().__init__(message)
        self.source = source
