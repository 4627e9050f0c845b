"""The examination of one candidate in one stage: which turns it takes, in which processes, on what state.

Where scores are earned, no process plays two steps of the same layer of a context, so that nothing can be
remembered from step to step but the declared state, which comes through the judge and is charged at every
step. In the stages that choose and report, validation and holdout, each budget has processes of its own, too;
the search saves these forks. The probe is played twice, the second time in one process and with other ambient
random numbers, to find policies that keep state elsewhere, or do not decide alike.

Where inclusion probabilities below 1 are claimed, the stages that earn a score draw one case of each layer
many times. Which one it is depends on all that was decided before, and its random numbers on values that no
policy is shown: nobody can be honest there and nowhere else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.token_selection.dialogue import Dialogue, Phase
from evaluators.token_selection.inclusion import check_inclusion
from evaluators.token_selection.kept import Kept
from evaluators.token_selection.scoring import (
    DECISIONS,
    Opened,
    behaviour_of,
    check_dense,
    check_traffic,
    measure,
    verdict,
)
from evaluators.token_selection.turns import Build, Decision, Play, Step, flat, layer_shares

if TYPE_CHECKING:
    from evaluators.token_selection.scoring import Measured, Played
    from evaluators.token_selection.workloads import Case

EARNING = ("search", "validation", "holdout")


class Examination(Dialogue):
    """See the module; the methods are those that the sandbox calls."""

    draws_of_case = 64  # in the test of inclusion probabilities

    def __init__(self, opened: Opened, oracle: bool) -> None:
        self.opened = opened
        self.workload = opened.workload
        self.oracle = oracle
        self.probing = self.workload.stage == "probe"
        self.shares: list[list[float]] = []  # [B][L]
        self.states: dict[tuple[int, int, int | None], Kept] = {}  # context, layer, budget
        self.decisions: dict[int, Decision] = {}
        self.draws: dict[Case, list[Decision]] = {}
        super().__init__(self._processes())

    def _heed(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What the process made of the turns of a phase."""
        match self.phase:
            case Build() as build:
                self.shares = self.shares or layer_shares(arrays.get("shares"), self.workload)
                for pair, kept in zip(build.pairs, build.states(arrays), strict=True):
                    self.states[*pair, None] = kept
            case Play() as play:
                for step, kept in zip(play.steps, play.states(arrays), strict=False):
                    self.states[step.case.context, step.case.layer, step.case.budget] = kept
                for step, decision in zip(play.steps, play.decisions(arrays), strict=True):
                    if step.draw:
                        self.draws.setdefault(step.case, []).append(decision)
                    else:
                        self.decisions[step.case.number] = decision

    def value(self) -> dict[str, object]:
        """The verdict; raises CandidateError for what has no score."""
        measured = self._measured()
        check_traffic(self.workload, measured)
        check_dense(self.workload, measured)
        return asdict(verdict(self.workload, measured, self._behaviour()))

    def _measured(self) -> "list[list[Measured]]":
        """The figures of each context and layer, once the probabilities have been checked."""
        played = self._played()
        measured = [
            [measure(self.opened, context, layer, played) for layer in range(self.workload.layers)]
            for context in range(len(self.workload.contexts))
        ]
        for case, drawn in self.draws.items():
            scores = self.opened.scores[case.context][case.layer][case.step]
            check_inclusion(flat(drawn), scores[:, : self.workload.length(case.step)])
        return measured

    def _behaviour(self) -> str:
        return behaviour_of(self._played())

    def _processes(self) -> Iterator[Iterator[Phase]]:
        """The phases of each process; what comes later depends on what was decided before."""
        for phase in self._run():
            yield iter([phase])
        sampled = any((decision.probabilities < 1).any() for decision in self.decisions.values())
        if sampled and self.workload.stage in EARNING:
            yield (
                self._play([Step(case, draw) for draw in range(1, self.draws_of_case + 1)], keep=False)
                for case in self._unforeseen()
            )
        if self.probing:
            first, self.decisions, self.states = self.decisions, {}, {}
            self.noise = 1
            yield self._run()
            _check_repeat(first, self.decisions)

    def _run(self) -> Iterator[Phase]:
        contexts, layers, budgets, steps = self.workload.shape
        pairs = [(context, layer) for context in range(contexts) for layer in range(layers)]
        yield Build(self.workload, pairs)
        apart = self.workload.stage in ("validation", "holdout")
        together = [[budget] for budget in range(budgets)] if apart else [range(budgets)]
        cases = {pair: list(self.workload.cases(*pair)) for pair in pairs}
        for step in range(steps):
            for group in together:
                chosen = [Step(cases[pair][budget * steps + step]) for pair in pairs for budget in group]
                yield self._play(chosen, keep=step + 1 < steps)

    def _unforeseen(self) -> Iterator["Case"]:
        """One case of each layer: the budgets in turn, and the first or the last step, whose states are
        known.
        """
        decided = int(self._behaviour(), 16)
        contexts, layers, _, steps = self.workload.shape
        budgets = self.workload.scored
        for layer in range(layers):
            decided, context = divmod(decided, contexts)
            decided, last = divmod(decided, 2)
            budget = budgets[(decided + layer) % len(budgets)]
            cases = list(self.workload.cases(context, layer))
            yield cases[budget * steps + last * (steps - 1)]

    def _played(self) -> "Played":
        return flat([self.decisions[number] for number in sorted(self.decisions)])

    def _play(self, steps: list[Step], keep: bool) -> Play:
        return Play(
            self.workload, steps, [self._kept(step) for step in steps], self.shares, keep, self.oracle
        )

    def _kept(self, step: Step) -> Kept:
        """The state that a step starts from: after the step before it, or as built."""
        case = step.case
        built = self.states[case.context, case.layer, None]
        if case.step == 0:
            return built
        return self.states.get((case.context, case.layer, case.budget), built)


def _check_repeat(first: dict[int, Decision], second: dict[int, Decision]) -> None:
    """Played twice, in other processes, a policy has to decide the same."""
    once, again = (flat([run[number] for number in sorted(run)]) for run in (first, second))
    if not all(np.array_equal(once[name], again[name]) for name in DECISIONS):
        raise CandidateError(
            FailureKind.NONDETERMINISTIC,
            "Played again in fresh processes, the policy decided otherwise. Draw random numbers from "
            "`generator` only, and keep state nowhere but in attributes of the policy object.",
        )
