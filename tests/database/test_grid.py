"""MAP-Elites: what has to hold for any sequence of offers and migrations."""

import math
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from database.grid import Grid, cell_of, cells
from database.records import Axis, Cell, Elite, Placement, RunRecord

ISLANDS = 3
CELLS = [(x, y) for x in range(3) for y in range(2)]


def run_with(axes: tuple[Axis, ...], centroids: tuple[tuple[float, ...], ...] = ()) -> RunRecord:
    return RunRecord("p", "{}", 0, axes, 1, 0, "0", centroids)


class GridMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.grid = Grid(ISLANDS)
        self.offered: dict[tuple[int, Cell], float] = {}
        self.first_filled: list[list[Cell]] = [[] for _ in range(ISLANDS)]
        self.hashes: set[str] = set()

    def note(self, elite: Elite, placement: Placement) -> None:
        place = (elite.island, elite.cell)
        expected = (
            Placement.IMPROVED if elite.score > self.offered.get(place, -math.inf) else Placement.REJECTED
        )
        if place not in self.offered:
            expected = Placement.NEW_CELL
            self.first_filled[elite.island].append(elite.cell)
        assert placement is expected
        self.offered[place] = max(elite.score, self.offered.get(place, -math.inf))

    @rule(island=st.integers(0, ISLANDS - 1), cell=st.sampled_from(CELLS), score=st.integers(-5, 5))
    def offer(self, island: int, cell: Cell, score: int) -> None:
        number = len(self.hashes)
        self.hashes.add(f"hash {number}")
        elite = Elite(island, cell, f"hash {number}", float(score), number)
        self.note(elite, self.grid.place(elite))

    @rule()
    def migrate(self) -> None:
        before = [self.grid.elites(island) for island in range(ISLANDS)]
        taken = {(elite.island, elite.cell): placement for placement, elite in self.grid.migrate()}
        for island, elites in enumerate(before):
            for elite in elites:
                arriving = replace(elite, island=(island + 1) % ISLANDS)
                self.note(arriving, taken.get((arriving.island, arriving.cell), Placement.REJECTED))

    @invariant()
    def every_cell_holds_the_best_ever_offered(self) -> None:
        assert {(e.island, e.cell): e.score for e in self.grid.elites()} == self.offered

    @invariant()
    def cells_are_never_emptied_and_keep_their_order(self) -> None:
        for island, filled in enumerate(self.first_filled):
            assert [elite.cell for elite in self.grid.elites(island)] == filled
            assert [self.grid.position(island, cell) for cell in filled] == list(range(len(filled)))

    @invariant()
    def no_elite_is_made_up(self) -> None:
        assert {elite.hash for elite in self.grid.elites()} <= self.hashes

    @invariant()
    def best_is_the_best_elite(self) -> None:
        ranked = sorted(self.grid.elites(), key=lambda elite: (-elite.score, elite.number, elite.island))
        assert self.grid.best == (ranked[0] if ranked else None)


class NoisyGridMachine(RuleBasedStateMachine):
    """Scores that are known better and better: means of measurements, restated again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = Grid(ISLANDS)
        self.means: dict[str, float] = {}
        self.filled: set[tuple[int, Cell]] = set()

    @rule(island=st.integers(0, ISLANDS - 1), cell=st.sampled_from(CELLS), score=st.integers(-5, 5))
    def offer(self, island: int, cell: Cell, score: int) -> None:
        number = len(self.means)
        self.means[f"hash {number}"] = float(score)
        self.grid.place(Elite(island, cell, f"hash {number}", float(score), number, noisy=number % 3 > 0))
        self.filled.add((island, cell))

    @rule()
    def migrate(self) -> None:
        self.filled |= {(elite.island, elite.cell) for _, elite in self.grid.migrate()}

    @precondition(lambda self: self.means)
    @rule(which=st.integers(0, 99), score=st.integers(-5, 5))
    def measure_again(self, which: int, score: int) -> None:
        number = which % len(self.means)
        if number % 3 == 0:
            return
        hash = f"hash {number}"
        self.means[hash] = float(score)
        held = {(e.island, e.cell): e.hash for e in self.grid.elites()}
        back = self.grid.restate(hash, score=float(score))
        now = {(e.island, e.cell): e.hash for e in self.grid.elites()}
        assert {place for place in held if held[place] != now[place]} == {(e.island, e.cell) for e in back}

    @invariant()
    def everybody_stands_with_what_was_measured_last(self) -> None:
        assert all(elite.score == self.means[elite.hash] for elite in self.grid.holders())

    @invariant()
    def nobody_holds_a_cell_of_someone_better_whom_it_displaced(self) -> None:
        for elite in self.grid.elites():
            seat = self.grid.seat(elite.island, elite.cell)
            assert seat.displaced is None or seat.displaced.score <= elite.score

    @invariant()
    def cells_are_never_emptied(self) -> None:
        assert {(elite.island, elite.cell) for elite in self.grid.elites()} == self.filled

    @invariant()
    def best_is_the_best_elite(self) -> None:
        ranked = sorted(self.grid.elites(), key=lambda elite: (-elite.score, elite.number, elite.island))
        assert self.grid.best == (ranked[0] if ranked else None)


TestNoisyGrid = NoisyGridMachine.TestCase
TestNoisyGrid.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestGrid = GridMachine.TestCase
TestGrid.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_tie_keeps_the_incumbent() -> None:
    grid = Grid(1)
    grid.place(Elite(0, (0,), "first", 1.0, 0))
    assert grid.place(Elite(0, (0,), "second", 1.0, 1)) is Placement.REJECTED
    assert grid.elites(0)[0].hash == "first"


def test_an_elite_moves_one_island_at_a_time() -> None:
    grid = Grid(3)
    grid.place(Elite(0, (0,), "traveller", 1.0, 0))
    grid.migrate()
    assert [len(grid.elites(island)) for island in range(3)] == [1, 1, 0]


def test_a_single_island_has_nowhere_to_migrate_to() -> None:
    grid = Grid(1)
    grid.place(Elite(0, (0,), "hermit", 1.0, 0))
    assert grid.migrate() == []


def test_choice_reaches_every_filled_cell() -> None:
    grid = Grid(1)
    for number, cell in enumerate(CELLS):
        grid.place(Elite(0, cell, "", 0.0, number))
    chosen = {grid.sample(0, lambda count, pick=pick: pick % count).cell for pick in range(len(CELLS))}
    assert chosen == set(CELLS)


def test_choice_from_an_empty_island_is_refused() -> None:
    with pytest.raises(LookupError, match="island 1 has no elite"):
        Grid(2).sample(1, lambda count: 0)


def test_best_by_cell_looks_at_all_islands() -> None:
    grid = Grid(2)
    grid.place(Elite(0, (0,), "worse", 1.0, 0))
    grid.place(Elite(1, (0,), "better", 2.0, 1))
    assert {cell: elite.hash for cell, elite in grid.best_by_cell().items()} == {(0,): "better"}


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 1000))
def test_every_finite_value_has_a_bin(value: float, bins: int) -> None:
    assert 0 <= Axis("a", -0.1, 0.7, bins).bin(value) < bins


@given(st.floats(-1, 2), st.floats(-1, 2))
def test_bins_are_ordered_like_values(one: float, other: float) -> None:
    axis = Axis("a", 0.0, 1.0, 10)
    assert axis.bin(min(one, other)) <= axis.bin(max(one, other))


@pytest.mark.parametrize(
    ("value", "number"), [(-9, 0), (0, 0), (0.24, 0), (0.25, 1), (0.99, 3), (1, 3), (9, 3)]
)
def test_bins_have_equal_width_and_open_ends(value: float, number: int) -> None:
    assert Axis("a", 0.0, 1.0, 4).bin(value) == number


@pytest.mark.parametrize(("low", "high", "bins"), [(0, 0, 1), (1, 0, 1), (0, 1, 0), (0, math.nan, 1)])
def test_axis_without_width_or_bins_is_refused(low: float, high: float, bins: int) -> None:
    with pytest.raises(ValueError, match="axis a"):
        Axis("a", low, high, bins)


@pytest.mark.parametrize("measured", [{}, {"a": math.nan}, {"a": math.inf}])
def test_cell_needs_every_descriptor(measured: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="descriptor a"):
        cell_of(run_with((Axis("a", 0, 1, 2),)), measured)


@given(st.lists(st.floats(-0.5, 1.5), min_size=2, max_size=2), st.integers(0, 99))
def test_a_candidate_belongs_to_its_nearest_centroid(place: list[float], seed: int) -> None:
    random = Random(seed)
    centroids = tuple((random.random(), random.random()) for _ in range(20))
    axes = (Axis("a", 0.0, 1.0, 1), Axis("b", 0.0, 2.0, 1))
    (cell,) = cell_of(run_with(axes, centroids), {"a": place[0], "b": 2 * place[1]})
    inside = [min(max(value, 0.0), 1.0) for value in place]
    nearest = min(math.dist(inside, centroid) for centroid in centroids)
    assert math.dist(inside, centroids[cell]) == pytest.approx(nearest)


def test_centroids_take_the_place_of_bins() -> None:
    axes = (Axis("a", 0, 1, 3), Axis("b", 0, 1, 2))
    assert (cells(run_with(axes)), cells(run_with(axes, ((0.1, 0.2), (0.9, 0.3))))) == (6, 2)
