"""A second sandbox that a judge leads beside the candidate's own, such as that of a user's evaluator.

The two never meet: what one has to say to the other goes through the judge. A conversation with the partner
turns its questions inside out: the judge asks for the next one when it has the answer to the last.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from sandbox.channel import Failed

if TYPE_CHECKING:
    import numpy as np

    from sandbox.channel import Answer

    Arrays = Mapping[str, np.ndarray]


class Playing(Protocol):
    """What a partner needs of `worker.ZygoteProcess`."""

    def play(self, source: str, answer: Answer, cancelled: int, times: Any) -> dict[str, np.ndarray]: ...

    def close(self) -> None: ...


class PartnerFailed(Exception):  # noqa: N818
    """The partner's process ended without a result; `failure_kind` is why."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure_kind = failure


class _Times:
    wall_s = 0.0
    cpu_s = 0.0


class _Conversation:
    """One process of the partner, which a thread plays while the judge answers from its own."""

    def __init__(self, zygote: Playing, source: str) -> None:
        self._zygote = zygote
        self._source = source
        self._cancelled, self._cancel = os.pipe()
        self._questions: queue.SimpleQueue[tuple[str, Arrays] | BaseException | dict[str, Any]]
        self._questions = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Arrays | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def next(self) -> tuple[str, Arrays] | BaseException | dict[str, Any]:
        """What the process asks, an exception, or a dictionary of what it said at its end."""
        return self._questions.get()

    def answer(self, arrays: Arrays | None) -> None:
        """The answer to its question; None ends the process."""
        self._answers.put(arrays)

    def end(self) -> None:
        """Ends the process if it still runs, and waits for that."""
        self._answers.put(None)
        os.write(self._cancel, b"!")
        self._thread.join()
        os.close(self._cancel)
        os.close(self._cancelled)

    def _play(self) -> None:
        try:
            self._questions.put(self._zygote.play(self._source, self._asked, self._cancelled, _Times()))
        except BaseException as error:
            self._questions.put(error)

    def _asked(self, question: str, arrays: Arrays) -> Arrays:
        self._questions.put((question, arrays))
        answer = self._answers.get()
        if answer is None:
            raise Failed("crash", "the conversation was ended")
        return answer


class Partner:
    """Begins conversations with the partner, one at a time."""

    def __init__(self, opened: Callable[[], Playing]) -> None:
        """`opened` starts the partner's sandbox, which is replaced when it is lost."""
        self._opened = opened
        self._zygote: Playing | None = opened()
        self._conversation: _Conversation | None = None
        self.end: dict[str, np.ndarray] | None = None  # what the process said at its end

    def begin(self, source: str = "") -> tuple[str, Arrays] | None:
        """Starts a process, which is given `source`; its first question, as `next` returns it."""
        self.stop()
        self.end = None
        self._zygote = self._zygote or self._opened()
        self._conversation = _Conversation(self._zygote, source)
        return self._heard()

    def next(self, answer: Arrays) -> tuple[str, Arrays] | None:
        """The question after the one with this answer; None when the process has come to its `end`.

        Raises PartnerFailed when it failed instead.
        """
        if self._conversation is None:
            raise RuntimeError("there is no conversation with the partner")
        self._conversation.answer(answer)
        return self._heard()

    def stop(self) -> None:
        """Ends the process, if there is one."""
        if self._conversation:
            self._conversation.end()
            self._conversation = None

    def close(self) -> None:
        """Ends the partner's sandbox with all that runs in it."""
        zygote, self._zygote = self._zygote, None
        if zygote:
            zygote.close()
        with contextlib.suppress(OSError):
            self.stop()

    def _heard(self) -> tuple[str, Arrays] | None:
        assert self._conversation is not None
        heard = self._conversation.next()
        if isinstance(heard, tuple):
            return heard
        self.stop()
        if isinstance(heard, dict):
            self.end = heard
            return None
        if isinstance(heard, Failed):
            raise PartnerFailed(heard.failure, str(heard)) from heard
        if self._zygote:  # lost: the next conversation starts another
            self._zygote.close()
            self._zygote = None
        if (failure := getattr(heard, "failure", None)) is not None:
            raise PartnerFailed(failure, str(heard)) from heard
        raise heard
