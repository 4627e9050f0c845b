"""Noisy scores: who is measured once more, so that luck does not keep a place that it has won.

Two rules, both counted in proposals, so that they depend on nothing but the archive:

* The best candidate and the one that it has to beat, its incumbent, are measured again until the interval of
  their difference excludes zero, or both have been measured often enough (a sequential test).
* The elites of the last island age: the one that was measured longest ago is measured again. There, a score
  is worth no more than its latest mean, whoever displaced whom. Why elitism fails under noise, and that
  measuring again helps, show Justesen, Risi and Mouret, "MAP-Elites for Noisy Domains by Adaptive Sampling",
  2019, and Flageolat and Cully, "Fast and Stable MAP-Elites in Noisy Domains Using Deep Grids", 2020.

Candidates whose score is free of noise are never measured again.
"""

import math
from collections.abc import Iterable, Mapping

from database.archive import Archive
from database.records import Elite
from evolve.statistics import t_quantile

REMEASURE = "remeasure"  # the operator of a proposal that measures its parent once more
MOST = 5  # measurements of one candidate at one stage
CONTEST = 4  # of so many proposals, one may be given to the contest for the best
AGEING = 10  # of so many proposals of the ageing island, one goes to its elite of the oldest measurement
LEVEL = 0.05  # of all looks at one pair of candidates together


class Remeasuring:
    """Tells which proposals are to measure a candidate again instead of making one."""

    def __init__(self, archive: Archive, islands: int) -> None:
        self.archive = archive
        self.islands = islands

    def due(self, number: int, under_way: Mapping[str, int]) -> str | None:
        """Hash of the candidate that proposal `number` is to measure again, None if it is to make a new one.

        `under_way` counts the measurements of each candidate that have been asked for.
        """
        if number % CONTEST == 0 and (contested := self._contested(under_way)) is not None:
            return contested
        turn, island = divmod(number, self.islands)
        if self.islands == 1 or island != self.islands - 1 or turn % AGEING:
            return None
        aged = [elite for elite in self.archive.elites(island) if _may_be_measured(elite, under_way)]
        return min(aged, key=lambda elite: (elite.measured, elite.number)).hash if aged else None

    def _contested(self, under_way: Mapping[str, int]) -> str | None:
        best, holders = self.archive.best(), self.archive.holders()
        if best is None or not any(elite.noisy for elite in holders):
            return None
        rivals = [elite for elite in holders if elite.hash != best.hash]
        if not rivals:
            return None
        incumbent = max(rivals, key=lambda elite: (elite.score, -elite.number))
        open_to = [elite for elite in (best, incumbent) if _may_be_measured(elite, under_way)]
        if not open_to or separated(best, incumbent, holders):
            return None
        return min(open_to, key=lambda elite: elite.samples + under_way.get(elite.hash, 0)).hash


def _may_be_measured(elite: Elite, under_way: Mapping[str, int]) -> bool:
    return elite.noisy and elite.samples + under_way.get(elite.hash, 0) < MOST


def separated(best: Elite, incumbent: Elite, measured: Iterable[Elite]) -> bool:
    """Whether the interval of the difference of two means excludes zero.

    The variance of a measurement is pooled over everybody in `measured`: two candidates of two measurements
    each say next to nothing of it. The level is divided by the number of possible looks (Bonferroni), since a
    test that is repeated until it succeeds would succeed by chance.
    """
    several = {elite.hash: elite for elite in measured if elite.samples > 1}.values()
    freedom = sum(elite.samples - 1 for elite in several)
    if not freedom:
        return not best.noisy and not incumbent.noisy
    variance = math.fsum(elite.spread for elite in several) / freedom
    parts = sum(1 / elite.samples for elite in (best, incumbent) if elite.noisy)
    reach = t_quantile(1 - LEVEL / (2 * MOST) / 2, freedom) * math.sqrt(variance * parts)
    return best.score - incumbent.score > reach
