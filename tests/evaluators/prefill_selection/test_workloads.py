"""Which query blocks are scored, and which recordings serve."""

import json
import shutil

import numpy as np
import pytest

from evaluators.prefill_selection.problem import inputs
from evaluators.prefill_selection.workloads import STAGES, dense_products, open_workload, prompt_products
from evaluators.recording import SMALL_RECORDING, Recording, prompt_positions
from kvolve import KvolveError


def test_blocks_hold_the_recorded_queries_and_the_last_is_not_scored():
    recording = Recording.open(SMALL_RECORDING)
    recorded = recording.load(recording.contexts("search")[0])[14].prompt_queries  # [P, H, D]
    layer = open_workload("search", SMALL_RECORDING).contexts[0][1]
    blocks = [*layer.blocks, layer.last]
    assert [block.end for block in blocks] == [248, 496, 744, 992]
    assert np.array_equal(np.concatenate([block.queries for block in blocks], 1), recorded.swapaxes(0, 1))
    positions = [token for block in blocks for token in range(block.begin, block.end)]
    assert tuple(positions) == prompt_positions(992)


def test_the_scored_blocks_stand_for_the_whole_prompt():
    layer = open_workload("search", SMALL_RECORDING).contexts[0][0]
    sample = sum(block.end for block in layer.blocks) / sum(block.rows for block in layer.blocks)
    whole = prompt_products(layer.heads, 992) / dense_products(layer.heads, 992, 1)
    assert sample == pytest.approx(whole / 64, rel=0.1)  # columns of a block, in blocks


def test_the_probes_see_other_blocks_and_the_full_budget_once():
    assert set(STAGES["probe"].blocks).isdisjoint(STAGES["second_probe"].blocks)
    assert [stage for stage, plan in STAGES.items() if 1.0 in plan.budgets] == ["probe"]


def test_a_recording_of_short_prompts_is_refused_before_anything_runs(tmp_path):
    short = tmp_path / "short"
    shutil.copytree(SMALL_RECORDING, short)
    manifest = json.loads((short / "manifest.json").read_text())
    for context in manifest["contexts"]:
        context["prefill"], context["steps"] = 512, 512
    (short / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(KvolveError, match="longer --prefill"):
        inputs(short)
