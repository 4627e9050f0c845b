"""The half that holds the cases and measures answers, outside the sandbox."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.cases.case import Case, Measured, Play, out_of_turn
from evaluators.evaluation import CandidateError, FailureKind, Verdict
from evaluators.problem import Problem

if TYPE_CHECKING:
    from evaluators.cases.case import Arrays

WORST_TOLD = 3  # cases that the feedback names


@dataclass(frozen=True, eq=False)
class Study:
    """What the judge has to know of a problem. `bound` is the figure of a case that stands for its bound."""

    problem: Problem
    cases: Callable[[str], Sequence[Case]]  # stage -> its cases
    figure: str  # what the figure of a case is, in words
    bound: Callable[[Any], float]


class CaseJudge:
    """Leads candidates through the cases of a stage."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.cases = cache(lambda stage: tuple(study.cases(stage)))
        # the seeds that stand for bounds are not played: the figures are known
        self.bounds = frozenset(seed.source for seed in study.problem.seeds() if seed.role == "bound")

    def examine(self, stage: str, source: str, sample: int = 0) -> "CaseExamination":
        """Begins the examination of a candidate in one stage."""
        return CaseExamination(self.study, stage, self.cases(stage), source in self.bounds)


class CaseExamination:
    """One candidate's way through one stage.

    A probe is played twice, the second time with the cases in reverse order: a candidate that remembers
    earlier cases, or does not decide alike, is found out.
    """

    def __init__(self, study: Study, stage: str, cases: tuple[Case, ...], is_bound: bool) -> None:
        self.study = study
        self.cases = cases
        self.is_bound = is_bound
        orders = [range(len(cases))] + ([range(len(cases))[::-1]] if "probe" in stage else [])
        self.plan = iter([] if is_bound else orders)
        self.left: list[int] = []  # cases of the process that are still to come, the next one last
        self.number: int | None = None
        self.playing: Play | None = None
        self.answers: defaultdict[int, list[Arrays]] = defaultdict(list)
        self.measured: dict[int, Measured] = {}

    def another_process(self) -> bool:
        """Whether a further process is to be played."""
        order = next(self.plan, None)
        self.left = [] if order is None else list(order)[::-1]
        self.number = self.playing = None
        return order is not None

    def answer(self, question: str, arrays: "Arrays") -> "Arrays":
        """The next case, once the last one is done; or what is asked in between."""
        match question, self.playing:
            case "begin", None:
                return self._next()
            case "done", play if play is not None and self.number is not None:
                self.measured[self.number] = play.measured(arrays)
                self.answers[self.number].append({name: array.copy() for name, array in arrays.items()})
                return self._next()
            case _, play if play is not None:
                return play.answer(question, arrays)
        raise out_of_turn()

    def take(self, arrays: "Arrays") -> None:
        """The end of a process: all cases have to be answered."""
        if self.playing is not None or self.left:
            raise out_of_turn()

    def _next(self) -> "Arrays":
        self.number = self.left.pop() if self.left else None
        self.playing = None if self.number is None else self.cases[self.number].play()
        return self.playing.told() if self.playing else {}

    def value(self) -> dict[str, object]:
        """The verdict; raises CandidateError for a candidate that does not decide alike."""
        if self.is_bound:
            found = [Measured(self.study.bound(case)) for case in self.cases]
            return asdict(self._verdict(found, hashlib.sha256(b"bound").hexdigest()))
        digest = hashlib.sha256()
        for number in range(len(self.cases)):
            played = [_encoded(answer) for answer in self.answers[number]]
            if len(set(played)) != 1:
                raise CandidateError(
                    FailureKind.NONDETERMINISTIC,
                    "Called again in a fresh process, with the cases in another order, the function answered "
                    "otherwise. Seed every random generator with a constant, and keep nothing between calls.",
                )
            digest.update(played[0])
        return asdict(self._verdict([self.measured[n] for n in range(len(self.cases))], digest.hexdigest()))

    def _verdict(self, found: list[Measured], behaviour: str) -> Verdict:
        figures = [one.figure for one in found]

        def means(of: list[dict[str, float]]) -> dict[str, float]:
            return {name: float(np.mean([one[name] for one in of])) for name in of[0]}

        metrics = means([one.metrics for one in found])
        worst = sorted(range(len(figures)), key=lambda number: figures[number])[:WORST_TOLD]
        lines = [f"{self.study.figure}: mean {np.mean(figures):.4g} of {len(figures)} cases."]
        lines.append("The worst: " + ", ".join(f"case {n} {figures[n]:.4g}" for n in worst) + ".")
        lines += [f"{name}: {value:.4g}" for name, value in metrics.items()]
        return Verdict(
            behaviour=behaviour,
            score=float(np.mean(figures)),
            metrics=metrics | {"worst_case": min(figures)},
            descriptors=means([one.descriptors for one in found]),
            feedback="\n".join(lines),
            samples=[[[figure]] for figure in figures],
        )


def _encoded(arrays: "Arrays") -> bytes:
    return b"".join(
        f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes()
        for name, array in sorted(arrays.items())
    )
