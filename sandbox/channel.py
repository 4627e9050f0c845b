"""The worker's end of the socket over which a candidate's process asks the judge."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sandbox import child, wire
from sandbox.task import FAILURES, Limits

if TYPE_CHECKING:
    import numpy as np

    Answer = Callable[[str, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

FAILURE_BYTES = 64 << 10
CHUNK = 1 << 18
TIMEVAL = struct.Struct("ll")  # seconds, microseconds


class Failed(Exception):  # noqa: N818
    """What a candidate sent, or what the judge says of it, ends its stage."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class Channel:
    """The worker's end of the socket to one child. It trusts nothing that it reads there."""

    def __init__(self, limits: Limits, answer: Answer) -> None:
        self.ours, self.theirs = socket.socketpair()
        patience = TIMEVAL.pack(int(limits.wall_s + limits.grace_s) + 1, 0)  # it may never read an answer
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        self.open = True
        self.end: dict[str, np.ndarray] | None = None
        self.failure: Failed | None = None
        self._heard = True
        self._limits = limits
        self._answer = answer
        self._received = bytearray()

    def begin(self, source: str) -> None:
        """Sends the candidate itself."""
        with contextlib.suppress(ConnectionError, BlockingIOError):  # it has ended; the zygote will say why
            wire.write_frame(self.ours.fileno(), source.encode())

    def read(self) -> None:
        """Takes what has come, and answers whole questions; a failure, or the stream's end, closes it."""
        try:
            chunk = self.ours.recv(CHUNK)
            self._received += chunk
            while (message := self._message()) is not None:
                self._heed(message)
        except ConnectionError:
            chunk = b""
        except Failed as failed:
            self.failure = failed
            chunk = b""
        if not chunk:
            self.open = False

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()

    def _message(self) -> memoryview | None:
        """The next whole message, once it is there."""
        header = wire.HEADER.size
        if len(self._received) < header:
            return None
        (size,) = wire.HEADER.unpack_from(self._received)
        most = self._limits.output_bytes
        if size > most:
            raise Failed("invalid_output", f"a result of {size:,} bytes; at most {most:,} are allowed")
        if len(self._received) < header + size:
            return None
        message = memoryview(bytes(self._received[header : header + size]))
        del self._received[: header + size]
        return message

    def _heed(self, message: memoryview) -> None:
        kind, rest = bytes(message[:1]), message[1:]
        if self.end is not None:
            raise Failed("invalid_output", "the result is malformed: it goes on behind its end")
        if kind == child.QUESTION and len(rest):
            length = 1 + rest[0]
            question = bytes(rest[1:length]).decode(errors="replace")
            if self._heard:  # else it has ended, and what it asked by the thousand costs nothing more
                self._send(self._answer(question, _arrays(rest[length:])))
        elif kind == child.END:
            self.end = _arrays(rest)
        elif kind == child.FAILURE and len(rest) <= FAILURE_BYTES:
            raise Failed(*_told(rest))
        else:
            raise Failed("invalid_output", "the result is malformed")

    def _send(self, answer: Mapping[str, np.ndarray]) -> None:
        try:
            message = wire.encode_arrays(answer, self._limits.output_bytes)
        except wire.WireError as error:  # such as the states of all turns, which were sent one by one
            raise Failed("memory", f"what was asked for is too much: {error}") from error
        try:
            wire.write_frame(self.ours.fileno(), message)
        except (ConnectionError, BlockingIOError):
            self._heard = False


def _arrays(message: memoryview) -> dict[str, np.ndarray]:
    try:
        return wire.decode_arrays(message)
    except wire.WireError as error:
        raise Failed("invalid_output", str(error)) from error


def _told(message: memoryview) -> tuple[str, str]:
    """Failure and message as a child tells them; a candidate may have written these bytes."""
    try:
        failure, text = wire.unpack(message)
    except (wire.WireError, ValueError, TypeError):
        return "invalid_output", "the result is malformed"
    if not isinstance(text, str) or not isinstance(failure, str) or failure not in FAILURES:
        return "crash", "ended with a failure that is none"
    return failure, text
