"""MAP-Elites in memory (Mouret & Clune 2015, arXiv:1504.04909): islands, each with its own grid of elites."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from database.records import Axis, Cell, Elite, Placement


def cell_of(axes: Sequence[Axis], descriptors: Mapping[str, float]) -> Cell:
    """The cell that measured descriptors fall into. Raises ValueError when one is missing or not finite."""
    for axis in axes:
        if not math.isfinite(descriptors.get(axis.name, math.nan)):
            raise ValueError(f"descriptor {axis.name} is missing or not finite in {dict(descriptors)}")
    return tuple(axis.bin(descriptors[axis.name]) for axis in axes)


def _rank(elite: Elite) -> tuple[float, int, int]:
    """A total order, so that the best elite does not depend on the order in which elites arrived."""
    return elite.score, -elite.number, -elite.island


class Grid:
    """The elites of all islands. A filled cell is never emptied, so its position in its island is fixed."""

    def __init__(self, islands: int) -> None:
        self._elites: list[list[Elite]] = [[] for _ in range(islands)]
        self._positions: list[dict[Cell, int]] = [{} for _ in range(islands)]
        self._best: Elite | None = None

    @property
    def best(self) -> Elite | None:
        """The elite with the highest score; of equal ones the earliest proposal, on the first island."""
        return self._best

    def place(self, offered: Elite) -> Placement:
        """Offers a candidate to a cell, which keeps the better one; a tie keeps the incumbent."""
        elites, positions = self._elites[offered.island], self._positions[offered.island]
        position = positions.get(offered.cell)
        if position is None:
            positions[offered.cell] = len(elites)
            elites.append(offered)
            placement = Placement.NEW_CELL
        elif offered.score > elites[position].score:
            elites[position] = offered
            placement = Placement.IMPROVED
        else:
            return Placement.REJECTED
        if self._best is None or _rank(offered) > _rank(self._best):
            self._best = offered
        return placement

    def position(self, island: int, cell: Cell) -> int:
        """Rank of a filled cell in the order in which the cells of its island were filled."""
        return self._positions[island][cell]

    def elites(self, island: int | None = None) -> list[Elite]:
        """Elites of one island, or of all, in the order in which their cells were filled."""
        if island is not None:
            return list(self._elites[island])
        return [elite for elites in self._elites for elite in elites]

    def sample(self, island: int, choose: Callable[[int], int]) -> Elite:
        """One elite of an island. `choose(n)` returns a number below n; uniform numbers give uniform cells.

        Raises LookupError while the island has no elite.
        """
        elites = self._elites[island]
        if not elites:
            raise LookupError(f"island {island} has no elite yet")
        return elites[choose(len(elites))]

    def migrate(self) -> list[tuple[Placement, Elite]]:
        """Offers every elite of island i to island i + 1, around the ring, and returns those that were taken.

        All islands send what they had before the migration, so that the order of the islands does not matter.
        Elites move by reference: the same candidate, no copy of it.
        """
        if len(self._elites) == 1:
            return []
        before = [list(elites) for elites in self._elites]
        taken: list[tuple[Placement, Elite]] = []
        for island, emigrants in enumerate(before):
            for elite in emigrants:
                arriving = replace(elite, island=(island + 1) % len(before))
                if (placement := self.place(arriving)) is not Placement.REJECTED:
                    taken.append((placement, arriving))
        return taken

    def best_by_cell(self) -> dict[Cell, Elite]:
        """The best elite of every cell that some island has filled."""
        best: dict[Cell, Elite] = {}
        for elite in self.elites():
            if elite.cell not in best or elite.score > best[elite.cell].score:
                best[elite.cell] = elite
        return best
