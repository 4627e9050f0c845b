"""The half of `verified_selection` that holds the data and counts violations, outside the sandbox."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np

from evaluators.recording import Recording
from evaluators.token_selection import judge as token_selection
from evaluators.token_selection.examination import Examination
from evaluators.token_selection.scoring import Opened, check_dense
from evaluators.token_selection.workloads import Goal, Workload, open_workload
from evaluators.verified_selection.scoring import errors_of, sampled_share, verdict
from evaluators.verified_selection.workloads import STAGES, goals_of, plan


@cache
def oracles() -> frozenset[str]:
    """The sources that see the cache for free: the shipped bounds, and no others."""
    from evaluators.verified_selection.problem import PROBLEM

    return frozenset(seed.source for seed in PROBLEM.seeds() if seed.role == "bound")


def open_judge(goals: str, **recordings: str) -> "Judge":
    """The judge of goals, one a line; `recordings` gives the recording of each stage."""
    return Judge({stage: Path(path) for stage, path in recordings.items()}, goals_of(goals.splitlines()))


class Judge(token_selection.Judge):
    """Leads candidates through stages, as that of `token_selection` does."""

    def __init__(self, recordings: dict[str, Path], goals: tuple[Goal, ...]) -> None:
        super().__init__(recordings)
        self.goals = goals

    def _workload(self, stage: str) -> Workload:
        split, recording = STAGES[stage].split, self.recordings[stage]
        contexts = len(Recording.open(recording, splits=(split,)).contexts(split))
        return open_workload(stage, recording, plan(stage, contexts, self.goals))

    def _examination(self, opened: Opened, source: str) -> Examination:
        return VerifiedExamination(opened, oracle=source in oracles())


class VerifiedExamination(Examination):
    """An examination whose decisions are to keep a guarantee, whatever they read."""

    draws_of_case = 32  # a wrong probability buys nothing here: its error counts as any other

    def value(self) -> dict[str, object]:
        """The verdict; raises CandidateError for what has no score."""
        measured, played, workload = self._measured(), self._played(), self.workload
        check_dense(workload, measured)
        scored = workload.scored
        places = [[(c, layer) for layer in range(workload.layers)] for c in range(len(workload.contexts))]
        errors = [
            [errors_of(self.opened, c, layer, played, measured[c][layer])[scored] for c, layer in row]
            for row in places
        ]
        drawn = [[sampled_share(self.opened, c, layer, played)[scored] for c, layer in row] for row in places]
        goals = [workload.goals[number] for number in scored]
        return asdict(verdict(goals, measured, np.array(errors), np.array(drawn), self._behaviour()))
