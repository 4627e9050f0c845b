"""MAP-Elites in memory (Mouret & Clune 2015, arXiv:1504.04909): islands, each with its own grid of elites."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from database.records import Cell, Elite, Placement, RunRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Points = NDArray[np.float64]


def cell_of(run: RunRecord, descriptors: Mapping[str, float]) -> Cell:
    """The cell that measured descriptors fall into: a bin of each axis, or the nearest centroid.

    Raises ValueError when a descriptor is missing or not finite.
    """
    for axis in run.axes:
        if not math.isfinite(descriptors.get(axis.name, math.nan)):
            raise ValueError(f"descriptor {axis.name} is missing or not finite in {dict(descriptors)}")
    if not run.centroids:
        return tuple(axis.bin(descriptors[axis.name]) for axis in run.axes)
    points = _points(run.centroids)
    here = [min(max((descriptors[a.name] - a.low) / (a.high - a.low), 0.0), 1.0) for a in run.axes]
    return (int(((points - here) ** 2).sum(axis=1).argmin()),)


@lru_cache(4)
def _points(centroids: tuple[tuple[float, ...], ...]) -> "Points":
    import numpy as np

    return np.array(centroids)


def place_of_cell(run: RunRecord, cell: Cell) -> tuple[float, ...]:
    """The middle of a cell, each descriptor scaled to [0, 1] over the range of its axis."""
    if run.centroids:
        return run.centroids[cell[0]]
    return tuple((bin + 0.5) / axis.bins for bin, axis in zip(cell, run.axes, strict=True))


def cells(run: RunRecord) -> int:
    """How many cells an island has."""
    return len(run.centroids) or math.prod(axis.bins for axis in run.axes)


def _rank(elite: Elite) -> tuple[float, int, int]:
    """A total order, so that the best elite does not depend on the order in which elites arrived."""
    return elite.score, -elite.number, -elite.island


@dataclass
class Seat:
    """The place of a cell: its elite, and whom it displaced with a noisy score that has yet to hold."""

    elite: Elite
    displaced: Elite | None = None

    def holders(self) -> tuple[Elite, ...]:
        """The elite, then whom it displaced."""
        return (self.elite,) if self.displaced is None else (self.elite, self.displaced)

    def restate(self, hash: str, measured: Mapping[str, Any]) -> bool:
        """Takes over what was measured of a candidate; returns whether a displaced one got its cell back."""
        if self.elite.hash == hash:
            self.elite = replace(self.elite, **measured)
        if self.displaced is not None and self.displaced.hash == hash:
            self.displaced = replace(self.displaced, **measured)
        if self.displaced is None or self.displaced.score <= self.elite.score:
            return False
        self.elite, self.displaced = self.displaced, self.elite
        return True


class Grid:
    """The elites of all islands. A filled cell is never emptied, so its position in its island is fixed."""

    def __init__(self, islands: int) -> None:
        self._seats: list[list[Seat]] = [[] for _ in range(islands)]
        self._positions: list[dict[Cell, int]] = [{} for _ in range(islands)]
        self._best: Elite | None = None

    @property
    def best(self) -> Elite | None:
        """The elite with the highest score; of equal ones the earliest proposal, on the first island."""
        return self._best

    def place(self, offered: Elite) -> Placement:
        """Offers a candidate to a cell, which keeps the better one; a tie keeps the incumbent."""
        seats, positions = self._seats[offered.island], self._positions[offered.island]
        position = positions.get(offered.cell)
        if position is None:
            positions[offered.cell] = len(seats)
            seats.append(Seat(offered))
            placement = Placement.NEW_CELL
        elif offered.score > (incumbent := seats[position].elite).score:
            contested = offered.noisy and offered.hash != incumbent.hash
            seats[position] = Seat(offered, incumbent if contested else None)
            placement = Placement.IMPROVED
        else:
            return Placement.REJECTED
        if self._best is None or _rank(offered) > _rank(self._best):
            self._best = offered
        return placement

    def restore(self, elite: Elite, displaced: Elite | None) -> None:
        """Puts an elite into a new cell as it was stored."""
        self._positions[elite.island][elite.cell] = len(self._seats[elite.island])
        self._seats[elite.island].append(Seat(elite, displaced))
        if self._best is None or _rank(elite) > _rank(self._best):
            self._best = elite

    def restate(self, hash: str, **measured: Any) -> list[Elite]:
        """Takes over what further measurements of a candidate came to: fields of `Elite`.

        Promotions that do not hold are undone: whoever had the cell before gets it back. Returns those.
        """
        seats = [seat for seats in self._seats for seat in seats if hash in {e.hash for e in seat.holders()}]
        back = [seat.elite for seat in seats if seat.restate(hash, measured)]
        if seats:
            self._best = max(self.elites(), key=_rank)
        return back

    def position(self, island: int, cell: Cell) -> int:
        """Rank of a filled cell in the order in which the cells of its island were filled."""
        return self._positions[island][cell]

    def seat(self, island: int, cell: Cell) -> Seat:
        """Who holds a filled cell."""
        return self._seats[island][self._positions[island][cell]]

    def holder(self, island: int, cell: Cell) -> Elite | None:
        """The elite of a cell; None while the cell is empty."""
        position = self._positions[island].get(cell)
        return None if position is None else self._seats[island][position].elite

    def elites(self, island: int | None = None) -> list[Elite]:
        """Elites of one island, or of all, in the order in which their cells were filled."""
        chosen = self._seats if island is None else [self._seats[island]]
        return [seat.elite for seats in chosen for seat in seats]

    def holders(self) -> list[Elite]:
        """All elites and those that noisy ones have displaced."""
        return [elite for seats in self._seats for seat in seats for elite in seat.holders()]

    def sample(self, island: int, choose: Callable[[int], int]) -> Elite:
        """One elite of an island. `choose(n)` returns a number below n; uniform numbers give uniform cells.

        Raises LookupError while the island has no elite.
        """
        seats = self._seats[island]
        if not seats:
            raise LookupError(f"island {island} has no elite yet")
        return seats[choose(len(seats))].elite

    def migrate(self) -> list[tuple[Placement, Elite]]:
        """Offers every elite of island i to island i + 1, around the ring, and returns those that were taken.

        All islands send what they had before the migration, so that the order of the islands does not matter.
        Elites move by reference: the same candidate, no copy of it.
        """
        if len(self._seats) == 1:
            return []
        before = [self.elites(island) for island in range(len(self._seats))]
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
