"""What an exported policy is given says the same as the judge, and the example of the interface runs."""

import numpy as np
import pytest
import torch

from evaluators.prefill_selection.meter import Meter
from evaluators.prefill_selection.problem import PROBLEM
from evaluators.prefill_selection.standalone import Block


@pytest.fixture
def both(judge):
    """The same block of a recorded prompt: with the judge, and alone."""
    layer = judge.examine("search", "").workload.contexts[0][1]
    meter = Meter(layer, oracle=False)
    assert meter.next()
    keys = torch.from_numpy(layer.keys.astype(np.float32))
    return meter, Block(torch.from_numpy(meter.block.queries), keys, meter.block.begin)


def test_scores_alone_are_those_of_the_judge(both):
    meter, block = both
    rows, columns = np.array([0, 9, 63], np.int32), np.arange(100, 230, dtype=np.int32)
    asked = {"rows": rows, "columns": np.tile(columns, (block.heads, 1))}
    alone = block.scores(torch.from_numpy(rows), torch.from_numpy(columns))
    assert torch.isinf(alone).any()
    assert alone.numpy() == pytest.approx(meter.answer("scores", asked)["scores"], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("size", [1, 16, 30])
def test_mean_scores_alone_are_those_of_the_judge(both, size):
    meter, block = both
    found = meter.answer("means", {"size": np.array(size)})["scores"]
    assert block.mean_scores(size).numpy() == pytest.approx(found, rel=1e-4, abs=1e-4)


def test_computed_scores_alone_are_those_of_the_judge(both):
    meter, block = both
    columns = np.tile(np.arange(7, dtype=np.int32), (block.heads, 1))
    found = meter.answer("compute", {"columns": columns})["scores"]
    assert block.compute(torch.arange(7)).numpy() == pytest.approx(found, rel=1e-4, abs=1e-4)


def test_a_whole_budget_affords_all_columns_and_none_what_is_always_computed(both):
    _, block = both
    assert block.affordable(1.0) == block.end
    assert block.affordable(block.spent) == 0


def test_the_example_of_the_interface_has_a_score(play):
    example = PROBLEM.interface.rpartition("```python\n")[2].partition("```")[0]
    assert play(example, "probe")["score"] > 0
