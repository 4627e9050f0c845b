"""The half of `token_selection` that holds the data and scores decisions, outside the sandbox."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluators.token_selection.estimator import dense_scores
from evaluators.token_selection.examination import Examination
from evaluators.token_selection.scoring import Opened, dense_outputs
from evaluators.token_selection.workloads import open_workload

if TYPE_CHECKING:
    from evaluators.token_selection.workloads import Layer, Workload


@cache
def oracles() -> frozenset[str]:
    """The sources that see all scores for free: the shipped bounds, and no others."""
    from evaluators.token_selection.problem import PROBLEM

    return frozenset(seed.source for seed in PROBLEM.seeds() if seed.role == "bound")


def open_judge(**recordings: str) -> "Judge":
    """The judge; `recordings` gives the recording of each stage."""
    return Judge({stage: Path(path) for stage, path in recordings.items()})


class Judge:
    """Leads candidates through stages. All that decides a score is counted and computed on its side."""

    def __init__(self, recordings: Mapping[str, Path]) -> None:
        self.recordings = recordings
        self.opened: dict[str, Opened] = {}

    def examine(self, stage: str, source: str, sample: int = 0) -> Examination:
        """Begins the examination of a candidate in one stage, with the random numbers of a sample."""
        opened = self.open(stage)
        if sample:
            opened = replace(opened, workload=replace(opened.workload, sample=sample))
        return self._examination(opened, source)

    def _examination(self, opened: Opened, source: str) -> Examination:
        return Examination(opened, oracle=source in oracles())

    def _workload(self, stage: str) -> "Workload":
        return open_workload(stage, self.recordings[stage])

    def open(self, stage: str) -> Opened:
        """A stage's data, opened when the stage is first judged."""
        if stage not in self.opened:
            workload = self._workload(stage)
            lengths = np.array([workload.length(step) for step in range(len(workload.steps))])

            def dense(layer: "Layer") -> tuple[np.ndarray, np.ndarray]:
                scores = dense_scores(layer.queries, layer.keys.astype(np.float32))
                return scores, dense_outputs(scores, layer, lengths)

            found = [[dense(layer) for layer in context] for context in workload.contexts]
            scores = [[scores for scores, _ in context] for context in found]
            outputs = [[outputs for _, outputs in context] for context in found]
            self.opened[stage] = Opened(workload, scores, outputs)
        return self.opened[stage]
