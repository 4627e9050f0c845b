"""What the seeds of the problem are worth, what its tables are like, and what it refuses."""

import numpy as np
import pytest

from evaluators.evaluation import CandidateError
from evaluators.llm_sql.cases import Table
from evaluators.llm_sql.problem import PROBLEM
from evaluators.llm_sql.workloads import KINDS, STAGES, cases
from evaluators.program import load
from sandbox.screen import screen
from tests.evaluators.cases.stages import run


@pytest.mark.parametrize("stage", STAGES)
def test_seeds_score_in_order(play, sources, stage):
    score = {name: play(source, stage)["score"] for name, source in sources.items()}
    assert score["start"] < score["sorted_rows"] < score["ggr"] < score["spanning_tree"] < 1
    assert score["sorted_rows"] < score["shared_cells"] < score["spanning_tree"]


def test_ggr_is_ahead_of_one_order_for_all_rows_on_every_table(play, sources):
    """The claim of the paper: the order of the fields has to differ from row to row."""
    own, fixed = (np.ravel(play(sources[name], "search")["samples"]) for name in ("ggr", "sorted_rows"))
    assert (own > fixed).all()


def test_ggr_takes_the_group_first_that_saves_the_most_squared_tokens(sources):
    reorder = load(sources["ggr"], PROBLEM.language)["reorder"]
    values = np.array([[0, 3], [0, 4], [1, 4], [2, 4]])
    lengths = np.array([[9, 2], [9, 5], [9, 5], [9, 5]])
    rows, columns = reorder(values, lengths, 1024, 16)
    # Text 0 saves 81 x 1, text 4 saves 25 x 2: rows 0 and 1 come first, with column 0 in front.
    assert sorted(rows[:2]) == [0, 1]
    assert [columns[row][0] for row in (0, 1, 2, 3)] == [0, 0, 1, 1]


def test_ggr_takes_along_what_follows_from_a_column(sources):
    dependent = load(sources["ggr"], PROBLEM.language)["dependent"]
    assert dependent(np.array([[0, 5, 9], [1, 5, 9], [0, 5, 8], [2, 6, 8]])) == [[1], [], []]


def test_shared_cells_puts_all_that_a_group_has_in_common_in_front(sources):
    # Column 1 does not follow from column 0, but all rows of text 0 have text 1 there.
    values = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 3], [0, 1, 3], [9, 1, 4], [9, 5, 6]])
    lengths = np.tile([100, 5, 40], (6, 1))
    first = {}
    for name in ("ggr", "shared_cells"):
        reorder = load(sources[name], PROBLEM.language)["reorder"]
        _, columns = reorder(values, lengths, 1024, 16)
        first[name] = [list(columns[row][:2]) for row in range(4)]
    assert first["ggr"] == [[0, 2]] * 4
    assert first["shared_cells"] == [[0, 1]] * 4


def test_seeds_that_differ_in_a_constant_are_told_apart_by_a_probe(play, sources):
    """Otherwise one would get the score of the other."""
    seed = sources["ggr"]
    behaviours = {play(seed.replace("POWER = 2.0", f"POWER = {power}"))["behaviour"] for power in (1, 1.5, 2)}
    assert len(behaviours) == 3


def test_seeds_pass_the_screen():
    for seed in PROBLEM.seeds():
        assert screen(seed.source, PROBLEM.language) == []


def test_objectives_of_seeds_come_close_to_what_the_judge_serves(sources):
    """They leave out blocks, and take the cache as one prompt: both cost little in a sorted table."""
    for table in cases("search"):
        names = load(sources["sorted_rows"], PROBLEM.language)
        rows, columns = names["reorder"](table.values, table.lengths, table.capacity, 16)
        found = sum(table.served(rows, columns, table.capacity)) / table.lengths.sum()
        told = names["hit_rate"](columns[0].tolist(), table.values, table.lengths)
        again = load(sources["start"], PROBLEM.language)["hit_rate"](
            rows, columns, table.values, table.lengths
        )
        assert told == pytest.approx(again)
        assert found <= told < found + 0.1


def test_tables_are_what_is_said_of_them():
    for table in cases("search"):
        rows, columns = table.values.shape
        assert rows == 240
        assert 6 <= columns <= 10
        assert table.lengths.sum(1).max() < table.capacity
        owner = {}
        for (_, column), value in np.ndenumerate(table.values):
            assert owner.setdefault(value, column) == column
        tokens = dict(zip(table.values.ravel(), table.lengths.ravel(), strict=True))
        assert all(
            tokens[value] == length
            for value, length in zip(table.values.flat, table.lengths.flat, strict=True)
        )


def test_search_has_every_kind_of_table():
    assert len(cases("search")) == STAGES["search"][1] * len(KINDS)


def test_stages_have_tables_of_their_own_and_the_same_at_every_call():
    assert len(set(PROBLEM.inputs(None).splits.values())) == len(STAGES)
    assert PROBLEM.inputs(None).splits == PROBLEM.inputs(None).splits


ROWS = "np.arange(len(values))"
COLUMNS = "np.tile(np.arange(values.shape[1]), (len(values), 1))"


@pytest.mark.parametrize(
    ("rows", "columns", "kind", "says"),
    [
        (f"np.maximum({ROWS}, 1)", COLUMNS, "invalid_output", "rows has to hold each"),
        (f"{ROWS} + 1", COLUMNS, "invalid_output", "rows has to lie in"),
        (f"{ROWS}[:-1]", COLUMNS, "invalid_output", "rows has to be whole numbers"),
        (f"{ROWS} * 1.0", COLUMNS, "invalid_output", "rows has to be whole numbers"),
        (ROWS, f"np.maximum({COLUMNS}, 1)", "invalid_output", r"columns\[0\] has to hold each"),
        (ROWS, f"{COLUMNS} - 1", "invalid_output", "columns has to lie in"),
        (ROWS, f"{COLUMNS}[:, :-1]", "invalid_output", "columns has to be whole numbers"),
        (ROWS, f"{COLUMNS}[0]", "invalid_output", "columns has to be whole numbers"),
        (ROWS, f"{COLUMNS} * np.nan", "invalid_output", "columns has to be whole numbers"),
        (ROWS, "[[0, 1], [0]]", "interface", "rectangular"),
        (ROWS, "None", "interface", "array of numbers"),
    ],
)
def test_invalid_layouts_are_labelled_failures(play, rows, columns, kind, says):
    source = (
        "import numpy as np\n\n\ndef reorder(values, lengths, capacity, block):\n"
        f"    return {rows}, {columns}\n"
    )
    with pytest.raises(CandidateError, match=says) as error:
        play(source)
    assert error.value.failure_kind == kind


def test_a_program_that_returns_the_rows_alone_is_told_what_to_return(play):
    with pytest.raises(CandidateError, match=r"\(rows, columns\)") as error:
        play("def reorder(values, lengths, capacity, block):\n    return list(range(len(values)))\n")
    assert error.value.failure_kind == "interface"


def test_a_cell_that_is_asked_twice_does_not_count_as_served():
    """The hole of a published evaluator: only rows and characters were counted, so cells could be altered."""
    table = Table(np.array([[0, 1], [2, 3]]), np.full((2, 2), 64), 1024)
    with pytest.raises(CandidateError, match="exactly once"):
        table.measured({"rows": np.array([0, 1]), "columns": np.array([[0, 0], [0, 1]])})


def test_in_the_sandbox_the_figures_are_the_same(play, sources):
    value = run(PROBLEM, sources["ggr"], "search").value
    assert value is not None
    assert value["score"] == play(sources["ggr"], "search")["score"]
    assert value["descriptors"] == play(sources["ggr"], "search")["descriptors"]


def test_example_of_the_interface_runs_and_passes_the_screen(play, sources):
    example = PROBLEM.interface.split("```python\n")[2].partition("```")[0]
    assert screen(example, PROBLEM.language) == []
    assert play(example, "search")["score"] > play(sources["start"], "search")["score"]
