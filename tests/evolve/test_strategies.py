"""What every choice of a parent keeps to, whatever the grid holds."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from database.grid import Grid
from database.records import Axis, Elite, Placement, RunRecord, Standing, Step
from evolve.remeasure import REMEASURE
from evolve.strategies import SEEDED, MapElites
from evolve.streams import stream
from kvolve import KvolveError

SELECTIONS = ("uniform", "rank", "curiosity")
ISLANDS = 3


@dataclass
class Archive:
    """As much of an archive as a strategy asks for: a real grid, and the steps of a run."""

    grid: Grid
    course: list[Step] = field(default_factory=list)
    seeds: list[Standing] = field(default_factory=list)

    def elites(self, island: int) -> list[Elite]:
        return self.grid.elites(island)

    def sample_elite(self, island: int, choose: Callable[[int], int]) -> Elite:
        return self.grid.sample(island, choose)

    def steps(self) -> list[Step]:
        return self.course

    def leaderboard(self, limit: int, operator: str) -> list[Standing]:
        assert operator == "seed"
        return self.seeds

    @property
    def run(self) -> RunRecord:
        return RunRecord("p", "{}", 0, (Axis("share", 0.0, 1.0, 40),), ISLANDS, 0, "")


def filled(offers: list[tuple[int, int, float]]) -> Archive:
    """A grid to which candidates of these islands, cells and scores were offered."""
    grid = Grid(ISLANDS)
    for number, (island, cell, score) in enumerate(offers):
        grid.place(Elite(island, (cell,), f"hash {number}", score, number))
    return Archive(grid)


OFFERS = st.lists(
    st.tuples(st.integers(0, ISLANDS - 1), st.integers(0, 9), st.floats(-1, 1)), min_size=1, max_size=60
)


@pytest.mark.parametrize("selection", SELECTIONS)
@given(offers=OFFERS, number=st.integers(0, 999), migrated=st.booleans())
def test_parents_are_elites_of_the_island_whose_turn_it_is(selection, offers, number, migrated):
    archive = filled(offers)
    if migrated:
        archive.grid.migrate()
    strategy, own = MapElites(archive, selection, ISLANDS), archive.elites(number % ISLANDS)
    if not own:
        with pytest.raises(KvolveError, match="nothing to start from"):
            strategy.choose(number, stream(0, number, "parents"))
        return
    assert {*strategy.choose(number, stream(0, number, "parents"))} <= {elite.hash for elite in own}


@pytest.mark.parametrize("selection", SELECTIONS)
@given(offers=OFFERS, seed=st.integers(0, 99))
def test_the_same_grid_and_random_numbers_give_the_same_parents(selection, offers, seed):
    island = offers[0][0]
    chosen = [
        MapElites(filled(offers), selection, ISLANDS).choose(island, stream(seed, island, "parents"))
        for _ in range(2)
    ]
    assert chosen[0] == chosen[1]


def counted(archive: Archive, selection: str, place: int = 0) -> Counter[str]:
    """How often each elite is the parent, or with `place` 1 the second candidate."""
    strategy = MapElites(archive, selection, ISLANDS)
    return Counter(
        strategy.choose(number, stream(0, number, "parents"))[place] for number in range(0, 12_000, ISLANDS)
    )


GRID = [(0, cell, cell / 10) for cell in range(10)]


def test_uniform_choice_takes_every_filled_cell_alike():
    times = counted(filled(GRID), "uniform")
    assert len(times) == 10
    assert max(times.values()) < 1.3 * min(times.values())


@pytest.mark.parametrize("selection", ["uniform", "rank", "curiosity"])
def test_the_second_candidate_is_of_any_filled_cell(selection):
    times = counted(filled(GRID), selection, place=1)
    assert len(times) == 10
    assert max(times.values()) < 1.3 * min(times.values())


def test_the_second_candidate_is_a_seed_now_and_then_though_no_cell_holds_it():
    archive = filled(GRID)
    archive.seeds = [Standing(f"seed {number}", number, "seed", 0.1) for number in range(3)]
    times = counted(archive, "rank", place=1)
    of_seeds = sum(times[seed.hash] for seed in archive.seeds)
    assert of_seeds == pytest.approx(SEEDED * sum(times.values()), rel=0.2)
    assert not {seed.hash for seed in archive.seeds} & {*counted(archive, "rank")}


def test_choice_by_rank_takes_the_better_more_often():
    times = counted(filled(GRID), "rank")
    ranked = [times[f"hash {number}"] for number in reversed(range(10))]
    assert ranked[0] > 1.5 * ranked[3] > 2 * ranked[6] > 0
    assert ranked == sorted(ranked, reverse=True)


def test_curious_choice_takes_whose_offspring_entered_the_grid_more_often():
    archive = filled(GRID)
    archive.course = [
        Step(number, "tune", f"child {number}", f"hash {number % 10}", 0.0, placement)
        for number in range(40)
        for placement in [Placement.NEW_CELL if number % 10 == 3 else Placement.REJECTED]
    ]
    times = counted(archive, "curiosity")
    assert times.most_common(1)[0][0] == "hash 3"
    assert len(times) == 10


def test_to_be_measured_again_is_no_offspring():
    archive = filled(GRID)
    archive.course = [Step(11, REMEASURE, "hash 3", "hash 3", None, None)] * 50
    times = counted(archive, "curiosity")
    assert max(times.values()) < 1.3 * min(times.values())


OFFERS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 39), st.floats(-9, 9)), min_size=1, max_size=60)


@given(offers=OFFERS, number=st.integers(0, 99))
def test_inspirations_are_others_of_the_better_half_of_the_island(offers, number):
    archive = filled(offers)
    elites = sorted(archive.elites(number % ISLANDS), key=lambda elite: -elite.score)
    parents = tuple(elite.hash for elite in elites[:2])
    if not parents:
        return
    shown = MapElites(archive, "rank", ISLANDS).inspirations(
        number, parents, stream(1, number, "inspirations")
    )
    assert len(set(shown)) == len(shown) <= 2
    assert not set(shown) & set(parents)
    better = elites[: (len(elites) + 1) // 2]
    assert {elite.hash for elite in better} >= set(shown)


def test_inspirations_are_far_from_the_parent_and_from_each_other():
    archive = filled([(0, cell, 1.0) for cell in range(40)])
    choose = MapElites(archive, "rank", ISLANDS).inspirations
    cells = {elite.hash: elite.cell[0] for elite in archive.elites(0)}
    distances = []
    for number in range(0, 300, ISLANDS):
        shown = choose(number, ("hash 0",), stream(1, number, "inspirations"))
        distances.append(min(cells[hash] for hash in shown))
    assert sum(distances) / len(distances) > 8.5  # of two random ones of cells 0 to 19, it would be 6.5


def test_inspirations_differ_from_time_to_time():
    archive = filled([(0, cell, 1.0) for cell in range(40)])
    choose = MapElites(archive, "rank", ISLANDS).inspirations
    seen = {
        choose(number, ("hash 0",), stream(1, number, "inspirations")) for number in range(0, 90, ISLANDS)
    }
    assert len(seen) > 5
