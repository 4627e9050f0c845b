"""Two runs, or two groups of runs with different seeds, side by side: which found the better champion."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from database.archive import Archive
from evaluators.problem import Problem
from evolve.finals import Entrant, read_finals, samples
from evolve.problems import problem_of_run
from evolve.statistics import RESAMPLES, Difference, paired_difference
from evolve.streams import stream
from evolve.workspace import open_run
from kvolve import KvolveError


@dataclass(frozen=True)
class Result:
    """What a finished run came to. `time_s` is from its first event to its last, pauses among them."""

    directory: Path
    problem: Problem
    champion: Entrant
    evaluations: int
    cost_usd: float
    time_s: float
    coverage: float
    qd_score: float

    @property
    def score(self) -> float:
        """The champion's validation score."""
        score = self.champion.validation.score
        assert score is not None  # a champion has one
        return score


@dataclass(frozen=True)
class Comparison:
    """Two groups of results on the same split, and the lead of the first group's champions on validation.

    `over` says what the interval of the lead is taken over: contexts for one run a side, else runs.
    """

    first: tuple[Result, ...]
    second: tuple[Result, ...]
    lead: Difference
    over: str


def compare(first: list[str], second: list[str]) -> Comparison:
    """Compares runs by name or directory.

    Raises KvolveError for a run that is not finished, and for runs of different problems or splits.
    """
    groups = tuple(map(_result, first)), tuple(map(_result, second))
    every = [*groups[0], *groups[1]]
    for other in every[1:]:
        for what, mine, its in (
            ("problems", every[0].problem.name, other.problem.name),
            ("validation splits", every[0].champion.validation.split, other.champion.validation.split),
        ):
            if mine != its:
                raise KvolveError(
                    f"{every[0].directory} and {other.directory} have different {what} "
                    f"({mine[:20]} and {its[:20]}). Compare runs of one problem on one recording."
                )
    if len(every) == 2:
        champions = [samples(result.champion.validation) for result in every]
        lead = paired_difference(champions[0], champions[1], every[0].problem.score_of)
        return Comparison(*groups, lead, "contexts")
    return Comparison(*groups, difference_of_means(*([r.score for r in group] for group in groups)), "runs")


def difference_of_means(first: list[float], second: list[float]) -> Difference:
    """Mean of `first` minus mean of `second`, with the 95% interval of the bootstrap over both, unpaired.

    The interval is unbounded when one side has a single run: that says nothing of how runs vary.
    """
    value = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 2:
        return Difference(value, -math.inf, math.inf)
    random = stream(0, 0, "bootstrap over runs")
    drawn = [random.choice(scores, size=(RESAMPLES, len(scores))).mean(axis=1) for scores in (first, second)]
    low, high = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    return Difference(value, float(low), float(high))


def _result(run: str) -> Result:
    directory, archive = open_run(run)
    try:
        finals = read_finals(archive)
        if finals is None:
            raise KvolveError(
                f"{directory} has no champion yet. `kvolve resume {directory}` finishes the run."
            )
        return Result(
            directory,
            problem_of_run(archive),
            finals.champion,
            archive.completed(),
            archive.cost().usd,
            _time_s(archive),
            archive.coverage(),
            archive.qd_score(),
        )
    finally:
        archive.close()


def _time_s(archive: Archive) -> float:
    times = [event.at for event in archive.events()]
    return max(times) - min(times) if times else 0.0


def comparison_as_json(comparison: Comparison) -> dict[str, Any]:
    """Everything about a comparison that a program may ask for; an unbounded interval is null."""
    lead = comparison.lead
    return {
        "problem": comparison.first[0].problem.name,
        "difference": lead.value,
        "interval": None if math.isinf(lead.low) else [lead.low, lead.high],
        "over": comparison.over,
        "first": [_as_json(result) for result in comparison.first],
        "second": [_as_json(result) for result in comparison.second],
    }


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "run": str(result.directory),
        "champion": result.champion.hash,
        "validation": result.score,
        "evaluations": result.evaluations,
        "cost_usd": result.cost_usd,
        "time_s": result.time_s,
        "coverage": result.coverage,
        "qd_score": result.qd_score,
    }


def show_comparison(console: Console, comparison: Comparison) -> None:
    """Both sides as a table, and the lead of the first over the second."""
    title = f"{comparison.first[0].problem.name}: champions on validation"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("run", no_wrap=True)
    for column in ("champion", "score", "evaluations", "cost USD", "time s", "coverage", "QD-score"):
        table.add_column(column, justify="right", min_width=len(column))
    for side, results in (("A", comparison.first), ("B", comparison.second)):
        for result in results:
            table.add_row(
                f"{side} {result.directory}",
                result.champion.hash[:8],
                f"{result.score:.4f}",
                str(result.evaluations),
                f"{result.cost_usd:.4f}",
                f"{result.time_s:.0f}",
                f"{result.coverage:.1%}",
                f"{result.qd_score:.2f}",
            )
    console.print(table)
    console.print(f"A minus B  {comparison.lead.value:+.4f}  {_interval(comparison)}", highlight=False)


def _interval(comparison: Comparison) -> str:
    lead = comparison.lead
    if math.isinf(lead.low):
        return f"no interval: it needs two {comparison.over} or more on each side"
    verdict = "excludes zero" if lead.certain else "does not exclude zero"
    return f"95% interval over {comparison.over} {lead.low:+.4f} .. {lead.high:+.4f}, which {verdict}"
