"""The examination of one candidate in one stage: one process for each context, and for each chunk behind it.

In a process each cache is compressed by a policy object of its own, so that nothing survives a compression
but what the judge keeps: the cache itself, and the declared state of its tokens. The probe is played twice,
the second time with the budgets in reverse order and other ambient random numbers.
"""

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from evaluators.evaluation import CandidateError, FailureKind, Verdict
from evaluators.kv_eviction.decoding import Decoding
from evaluators.kv_eviction.layer import BLOCK
from evaluators.kv_eviction.measuring import measure
from evaluators.kv_eviction.running import log_probabilities
from evaluators.kv_eviction.scoring import Outcome, digest_of, shape_of, verdict
from evaluators.kv_eviction.turn import Shown, Turn, out_of_turn
from evaluators.kv_eviction.workloads import Cached, StagePlan, full_caches

if TYPE_CHECKING:
    from evaluators.kv_eviction.judge import Judge
    from evaluators.kv_eviction.prefilled import Prefilled

Arrays = Mapping[str, np.ndarray]
PROBED_LAYERS = 10  # about as many are compressed in a probe


class Examination:
    """See the module; the methods are those that the sandbox calls."""

    def __init__(
        self, judge: "Judge", plan: StagePlan, contexts: Sequence["Prefilled"], oracle: bool = False
    ) -> None:
        self.judge, self.plan, self.contexts, self.oracle = judge, plan, contexts, oracle
        self.probing = plan.split == "probe"
        self.noise = 0
        self.outcomes: list[list[Outcome]] = []
        self.digest = hashlib.sha256()
        self.processes = self._probed() if self.probing else self._measured()
        self.turns: Iterator[Turn] = iter(())
        self.turn: Turn | None = None
        self.begun = False

    def another_process(self) -> bool:
        """Whether a further process is to take turns."""
        turns = next(self.processes, None)
        self.turns, self.turn, self.begun = iter(turns or ()), None, False
        return turns is not None

    def answer(self, question: str, arrays: Arrays) -> Arrays:
        """What a policy is shown, which tokens stay, or the next cache."""
        match question, self.turn:
            case "begin", None if not self.begun:
                self.begun = True
                return self._next()
            case "scored", Turn() as turn:
                return turn.scored(arrays)
            case "stored", Turn() as turn:
                turn.stored(arrays)
                return self._next()
            case _, Turn() as turn:
                return turn.answer(question, arrays)
        raise out_of_turn()

    def take(self, arrays: Arrays) -> None:
        """The end of a process: all its turns have to be over."""
        if not self.begun or self.turn is not None or next(self.turns, None) is not None:
            raise out_of_turn()

    def value(self) -> dict[str, object]:
        """The verdict."""
        behaviour = self.digest.hexdigest()
        if self.probing:  # nothing was run in a model
            return asdict(Verdict(behaviour, 0.0, {}, {}, ""))
        return asdict(verdict(self.plan.budgets, self.outcomes, behaviour))

    def _next(self) -> dict[str, np.ndarray]:
        self.turn = next(self.turns, None)
        return {"noise": np.array(self.noise), **self.turn.told()} if self.turn else {}

    def _ready(self, context: "Prefilled") -> Cached:
        """A context in memory, as this candidate is shown it."""
        cached = self.judge.cached(context)
        if not self.oracle:
            return cached
        pairs = zip(cached.shown, self.judge.future(cached), strict=True)
        return replace(cached, shown=tuple(replace(shown, future=future) for shown, future in pairs))

    def _first(self, cached: Cached, backwards: bool = False) -> list[Turn]:
        length = cached.context.length
        budgets = self.plan.budgets[::-1] if backwards else self.plan.budgets
        return [
            Turn(budget, budget * cached.bytes, length, cached.tokens, cached.shown, again=number > 0)
            for number, budget in enumerate(budgets)
        ]

    def _probed(self) -> Iterator[Sequence[Turn]]:
        for whole in map(self._ready, self.contexts):
            some = slice(None, None, max(1, len(whole.tokens) // PROBED_LAYERS))
            cached = replace(whole, tokens=whole.tokens[some], shown=whole.shown[some])
            turns = self._first(cached)
            yield turns
            self.noise = 1
            again = self._first(cached, backwards=True)
            yield again
            for one, other in zip(turns, again[::-1], strict=True):
                digests = [digest_of(turn.result or ()) for turn in (one, other)]
                if digests[0] != digests[1]:
                    raise CandidateError(
                        FailureKind.NONDETERMINISTIC,
                        "Played again in a fresh process, the policy decided otherwise. Draw random numbers "
                        "from a torch.Generator with a constant seed only, and keep nothing outside `self`.",
                    )
                self.digest.update(digests[0])

    def _measured(self) -> Iterator[Sequence[Turn]]:
        for cached in map(self._ready, self.contexts):
            turns = self._first(cached)
            yield turns
            exact = self.judge.exact(cached)
            found = []
            for turn in turns:
                assert turn.result is not None
                self.digest.update(digest_of(turn.result))
                found.append(measure(self.judge.model, cached, turn.result, exact))
            decoded = yield from self._decoded(cached, turns)
            random = [self.judge.random(cached, budget) for budget in self.plan.budgets]
            shapes = map(shape_of, turns)
            self.outcomes.append(
                [Outcome(*parts) for parts in zip(found, random, shapes, decoded, strict=True)]
            )

    def _decoded(
        self, cached: Cached, turns: Sequence[Turn]
    ) -> Generator[Sequence[Turn], None, list[float | None]]:
        """Mean KL of each budget while text is generated, chunk by chunk."""
        count = self.plan.decoded
        if not count:
            return [None] * len(turns)
        text = cached.context.entry.continuation[:count]
        length = cached.context.length
        exact = log_probabilities(
            self.judge.model, [text], length, full_caches(cached), rows=range(len(text))
        )
        decodings = [
            Decoding(cached, turn.budget, turn.result or (), _unobserved(turn), dict(cached.windows), length)
            for turn in turns
            if turn.budget * length >= 2 * BLOCK  # a smaller cache has no room for a chunk
        ]
        sums = np.zeros(len(decodings))
        for begin in range(0, len(text), BLOCK):
            chunk, after = text[begin : begin + BLOCK], exact[begin : begin + BLOCK]
            rooms = [decoding.turn() for decoding in decodings]
            yield rooms
            for number, (decoding, room) in enumerate(zip(decodings, rooms, strict=True)):
                found = decoding.follow(self.judge.model, room, chunk)
                sums[number] += float((after.exp() * (after - found)).sum(-1).clamp(min=0).sum())
        decoded = {one.budget: float(total) / len(text) for one, total in zip(decodings, sums, strict=True)}
        return [decoded.get(turn.budget) for turn in turns]


def _unobserved(turn: Turn) -> list[Shown]:
    """What a policy is shown of a cache that no new query has seen."""
    return [replace(shown, received=shown.received[:0], frequent=shown.frequent[:0]) for shown in turn.shown]
