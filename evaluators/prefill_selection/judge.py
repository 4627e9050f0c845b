"""The half of `prefill_selection` that holds the data and scores decisions, outside the sandbox."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from evaluators.prefill_selection.examination import Examination
from evaluators.prefill_selection.workloads import Workload, open_workload


@cache
def oracles() -> frozenset[str]:
    """The sources that see all scores for free: the shipped bounds, and no others."""
    from evaluators.prefill_selection.problem import PROBLEM

    return frozenset(seed.source for seed in PROBLEM.seeds() if seed.role == "bound")


def open_judge(**recordings: str) -> "Judge":
    """The judge; `recordings` gives the recording of each stage."""
    return Judge({stage: Path(path) for stage, path in recordings.items()})


class Judge:
    """Leads candidates through stages. All that decides a score is counted and computed on its side."""

    def __init__(self, recordings: Mapping[str, Path]) -> None:
        self.recordings = recordings
        self.opened: dict[str, Workload] = {}

    def examine(self, stage: str, source: str, sample: int = 0) -> Examination:
        """Begins the examination of a candidate in one stage, with the random numbers of a sample."""
        if stage not in self.opened:
            self.opened[stage] = open_workload(stage, self.recordings[stage])
        workload = replace(self.opened[stage], sample=sample) if sample else self.opened[stage]
        return Examination(workload, oracle=source in oracles())
