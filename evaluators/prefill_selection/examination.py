"""The examination of one candidate in one stage: which layers it plays at which budget, in which processes.

A process plays a single budget, so that nothing that was computed at a large one can be remembered at a
small one. Within a process each layer of each context has a policy object of its own, which sees the query
blocks in their order and may remember what it has paid for. The probe is played twice, the second time in
one process, with the layers in reverse order and with other ambient random numbers, to find policies that
keep state elsewhere or do not decide alike.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.prefill_selection.meter import Meter
from evaluators.prefill_selection.scoring import Decision, Played, measure, verdict
from evaluators.prefill_selection.workloads import Workload


class Turn(NamedTuple):
    """One layer of one context at one budget."""

    context: int
    layer: int
    budget: int


@dataclass
class Playing:
    """A turn under way."""

    turn: Turn
    meter: Meter
    decisions: list[Decision]


class Examination:
    """See the module; the methods are those that the sandbox calls."""

    def __init__(self, workload: Workload, oracle: bool) -> None:
        self.workload = workload
        self.oracle = oracle
        self.noise = 0  # which ambient random numbers
        self.played: Played = {}
        self.again: Played = {}
        self.plan = self._processes()
        self.turns: Iterator[Turn] = iter(())
        self.playing: Playing | None = None
        self.begun = False

    def another_process(self) -> bool:
        """Whether a further process is to take turns."""
        turns = next(self.plan, None)
        self.turns, self.playing, self.begun = iter(turns or ()), None, False
        return turns is not None

    def answer(self, question: str, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The next layer or block, once the one before is done; or what is read in between."""
        match question, self.playing:
            case "begin", None if not self.begun:
                self.begun = True
                return self._next_layer()
            case "next", Playing(meter=meter) as playing if meter.number is None:
                meter.next()
                return self._told(playing)
            case "chosen", Playing(meter=meter) as playing if meter.number is not None:
                playing.decisions.append(_decided(meter, arrays))
                return self._told(playing) if meter.next() else self._next_layer()
            case _, Playing(meter=meter):
                return meter.answer(question, arrays)
        raise _out_of_turn()

    def take(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The end of a process: all its turns have to be over."""
        if not self.begun or self.playing is not None or next(self.turns, None) is not None:
            raise _out_of_turn()

    def value(self) -> dict[str, object]:
        """The verdict; raises CandidateError for what has no score."""
        if self.again and not _alike(self.played, self.again):
            raise CandidateError(
                FailureKind.NONDETERMINISTIC,
                "Played again in a fresh process, the policy decided otherwise. Draw random numbers from "
                "`generator` only, and keep state nowhere but in attributes of the policy object.",
            )
        measured = [
            [measure(self.workload, context, layer, self.played) for layer in range(self.workload.layers)]
            for context in range(len(self.workload.contexts))
        ]
        return asdict(verdict(self.workload, measured, self.played))

    def _processes(self) -> Iterator[list[Turn]]:
        pairs = [
            (context, layer)
            for context in range(len(self.workload.contexts))
            for layer in range(self.workload.layers)
        ]
        budgets = range(len(self.workload.budgets))
        for budget in budgets:
            yield [Turn(*pair, budget) for pair in pairs]
        if self.workload.stage == "probe":
            self.noise = 1
            yield [Turn(*pair, budget) for pair in pairs[::-1] for budget in budgets]

    def _next_layer(self) -> dict[str, np.ndarray]:
        if self.playing is not None:
            played = self.again if self.noise else self.played
            played[self.playing.turn] = self.playing.decisions
        turn = next(self.turns, None)
        if turn is None:
            self.playing = None
            return {}
        meter = Meter(self.workload.contexts[turn.context][turn.layer], self.oracle)
        self.playing = Playing(turn, meter, [])
        return self._told(self.playing)

    def _told(self, playing: Playing) -> dict[str, np.ndarray]:
        """What a policy is told of the block that comes now."""
        turn, meter = playing.turn, playing.meter
        block, (kv_heads, prompt, _) = meter.block, meter.layer.keys.shape
        layers = self.workload.layers
        shape = (meter.layer.heads, kv_heads, block.begin, block.end, prompt, turn.layer, layers)
        told = {
            "noise": np.array(self.noise),
            "shape": np.array(shape),
            "spent": np.array(meter.spent()),
            "base": np.array(meter.base),
            "budget": np.array(self.workload.budgets[turn.budget]),
        }
        if meter.number is not None:
            told["seed"] = np.array(self.workload.seed(*turn, meter.number), np.int64)
        return told


def _decided(meter: Meter, arrays: Mapping[str, np.ndarray]) -> Decision:
    """The checked selection for one block, with its cost."""
    columns, drew = arrays.get("columns"), arrays.get("drew")
    if columns is None or columns.dtype != np.bool_ or columns.shape != meter.computed.shape:
        raise _out_of_turn()
    if drew is None or drew.dtype != np.bool_ or drew.shape != ():
        raise _out_of_turn()
    meter.choose(columns)
    return Decision(meter.computed, meter.own, meter.shared, bool(drew))


def _alike(one: Played, other: Played) -> bool:
    return one.keys() == other.keys() and all(
        first.alike(second)
        for turn, decisions in one.items()
        for first, second in zip(decisions, other[turn], strict=True)
    )


def _out_of_turn() -> CandidateError:
    return CandidateError(FailureKind.INVALID_OUTPUT, "The judge was asked out of turn.")
