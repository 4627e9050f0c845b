"""The cache against a slow twin, and the bound against every layout of small tables."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.llm_sql import reference
from evaluators.llm_sql.cache import BLOCK, served
from evaluators.llm_sql.cases import Table

LENGTH = st.integers(1, 40)


@st.composite
def tables(draw, rows=6, columns=3, few=2):
    """A table of few values, whose capacity need not hold a prompt, and random layouts of it."""
    shape = draw(st.integers(1, rows)), draw(st.integers(1, columns))
    cells = draw(st.lists(st.integers(0, few), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    values = np.array(cells).reshape(shape) + (few + 1) * np.arange(shape[1])
    size = (few + 1) * shape[1]
    tokens = np.array(draw(st.lists(LENGTH, min_size=size, max_size=size)))
    order = draw(st.permutations(range(shape[0])))
    within = [draw(st.permutations(range(shape[1]))) for _ in range(shape[0])]
    return Table(values, tokens[values], draw(st.integers(0, 200))), np.array(order), np.array(within)


@given(tables())
@settings(max_examples=300, deadline=None)
def test_judge_serves_what_the_reference_does_and_never_more_than_the_bound(drawn):
    table, rows, columns = drawn
    found = sum(table.served(rows, columns, table.capacity))
    cells = (table.values.tolist(), table.lengths.tolist())
    slowly = reference.served(rows.tolist(), columns.tolist(), *cells, capacity=table.capacity, block=BLOCK)
    assert found == slowly
    assert found <= sum(table.served(rows, columns, np.inf)) <= table.bound * table.lengths.sum() + 1e-9


@given(tables(rows=3, columns=2))
@settings(max_examples=60, deadline=None)
def test_bound_is_a_heaviest_spanning_tree_and_above_every_layout(drawn):
    table, _, _ = drawn
    count = len(table.values)
    orders = list(permutations(range(table.values.shape[1])))
    best = max(
        sum(table.served(np.array(rows), np.array(columns), np.inf))
        for rows in permutations(range(count))
        for columns in product(orders, repeat=count)
    )
    assert best <= reference.bound(table.values, table.lengths, BLOCK)
    assert reference.bound(table.values, table.lengths, BLOCK) == heaviest_tree(table)


def heaviest_tree(table: Table) -> int:
    """Of all ways in which each row but the first has an earlier one, under every order of the rows."""
    values, lengths = table.values, table.lengths

    def weight(one: int, other: int) -> int:
        return int(((values[one] == values[other]) * lengths[one]).sum()) // BLOCK * BLOCK

    return max(
        sum(max(weight(row, before) for before in rows[:place]) for place, row in enumerate(rows) if place)
        for rows in permutations(range(len(values)))
    )


def test_bound_is_reached_where_one_column_repeats():
    table = Table(np.array([[0, 2], [0, 3], [1, 4], [1, 5]]), np.full((4, 2), 32), 1024)
    assert reference.bound(table.values, table.lengths, BLOCK) == 64
    assert sum(table.served(np.arange(4), np.tile([0, 1], (4, 1)), 1024)) == 64


@pytest.mark.parametrize(
    ("capacity", "found"),
    [
        (96, [0, 0, 32]),  # holds both prompts
        (64, [0, 0, 16]),  # the second block of the first prompt has left, its first one not
        (48, [0, 0, 0]),
    ],
)
def test_last_blocks_of_the_prompt_used_longest_ago_leave_first(capacity, found):
    assert served([[(0, 32)], [(1, 48)], [(0, 32)]], capacity) == found


def test_a_block_that_is_not_full_is_never_served():
    assert served([[(0, 31)], [(0, 31)]], 1024) == [0, 16]


def test_equal_texts_behind_different_ones_are_not_served():
    assert served([[(0, 16), (1, 16)], [(2, 16), (1, 16)]], 1024) == [0, 0]


def test_a_block_across_two_cells_is_served_where_both_are_the_same():
    assert served([[(0, 8), (1, 8)], [(0, 8), (1, 8)], [(0, 8), (2, 8)]], 1024) == [0, 16, 0]
