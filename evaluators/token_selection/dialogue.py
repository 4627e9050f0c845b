"""Processes of a candidate, phase after phase: what is told to them, and what they ask in between."""

from collections.abc import Iterator, Mapping

import numpy as np

from evaluators.token_selection.turns import Build, Play, out_of_turn

Phase = Build | Play


class Dialogue:
    """One candidate's way through a number of fresh processes; see `Examination` in `sandbox.task`."""

    def __init__(self, plan: Iterator[Iterator[Phase]]) -> None:
        """`plan` gives the phases of each process."""
        self.noise = 0  # which ambient random numbers
        self.plan = plan
        self.phases: Iterator[Phase] = iter(())
        self.phase: Phase | None = None

    def another_process(self) -> bool:
        """Whether a further process is to take turns."""
        phases = next(self.plan, None)
        self.phases, self.phase = phases or iter(()), None
        return phases is not None

    def answer(self, question: str, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The turns of the next phase, once the last one is done; or what is read in one of them."""
        match question, self.phase:
            case "begin", None:
                return self._next()
            case "done", Build() | Play():
                self._heed(arrays)
                return self._next()
            case _, Build() | Play() as phase:
                return phase.answer(question, arrays)
        raise out_of_turn()

    def take(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The end of a process: all its phases have to be over."""
        if self.phase is not None or next(self.phases, None) is not None:
            raise out_of_turn()

    def _next(self) -> dict[str, np.ndarray]:
        self.phase = next(self.phases, None)
        return {"noise": np.array(self.noise), **self.phase.told()} if self.phase else {}

    def _heed(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes what the process made of the turns of a phase."""
        raise NotImplementedError
