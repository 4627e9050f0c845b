"""Seeds rank tokens as kvpress does, on the same tensors: the last 96 tokens of the recorded context.

The queries of the prompt's end and of the decode steps follow each other, so that all attention of these
tokens to each other is known.
"""

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluators.recording import PROMPT_BLOCK, SMALL_RECORDING, Recording
from evaluators.token_selection import standalone
from tests.seeds.policies import module

PRESSES = ("observed", "last", "streaming", "window")
KEPT = 24
ROUNDING = 1e-5  # of a score


@dataclass(frozen=True)
class Scored:
    """One layer: queries [H, T, D], keys [G, T, D], and what each press makes of them [G, T]."""

    queries: torch.Tensor
    keys: torch.Tensor
    scores: dict[str, torch.Tensor]

    @property
    def cache(self) -> standalone.Cache:
        return standalone.Cache(self.keys, self.keys, len(self.queries))

    def selected(self, name: str, kept: int) -> torch.Tensor:
        """What a seed without an index reads at the last step, by KV head [G, kept]."""
        budget = (kept + 0.5) / self.keys.shape[1]
        tokens, _ = module(name).Policy().select(self.queries[:, -1], self.cache, budget, torch.Generator())
        return tokens.view(len(self.keys), -1, tokens.shape[1])[:, 0]


def attention(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """The weights [H, T, T] of queries [H, T, D], each of which sees its own token and those before it."""
    shared = keys.repeat_interleave(len(queries) // len(keys), 0)
    scores = queries @ shared.transpose(1, 2) / queries.shape[2] ** 0.5
    return scores.masked_fill(~torch.ones_like(scores[0]).tril().bool(), -torch.inf).softmax(-1)


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> list[Scored]:
    if importlib.util.find_spec("kvpress") is None:
        pytest.skip("kvpress is not installed; `make install` does it")
    recording = Recording.open(SMALL_RECORDING)
    context = recording.contexts("search")[0]
    tensors, given = {}, {}
    for number, layer in recording.load(context).items():
        ends = np.concatenate([layer.prompt_queries[-PROMPT_BLOCK:], layer.queries])  # [T, H, D]
        queries = torch.from_numpy(ends.astype(np.float32)).transpose(0, 1).contiguous()
        keys = torch.from_numpy(layer.keys[:, -len(ends) :].astype(np.float32))
        tensors[number] = queries, keys
        given |= {f"attention.{number}": attention(queries, keys), f"keys.{number}": keys}
    folder = tmp_path_factory.mktemp("kvpress")
    save_file(given, folder / "in")
    script = Path(__file__).with_name("kvpress_scores.py")
    command = [sys.executable, script, folder / "in", folder / "out", str(KEPT)]
    subprocess.run(command, check=True)
    scores = load_file(folder / "out")
    return [
        Scored(*pair, {press: scores[f"{press}.{number}"] for press in PRESSES})
        for number, pair in tensors.items()
    ]


def assert_same_ranking(order: torch.Tensor, scores: torch.Tensor) -> None:
    """`order` [G, n] has each token once, and their `scores` [G, n] descend in it, but for rounding."""
    assert torch.equal(order.sort().values, torch.arange(scores.shape[1]).expand_as(order))
    ranked = scores.gather(1, order.long())
    assert (ranked[:, 1:] <= ranked[:, :-1] * (1 + ROUNDING)).all()
    assert (ranked[:, 0] > 2 * ranked[:, -1]).all()  # there is an order, also where attention is flat


def test_h2o_ranks_the_prompt_as_observed_attention_does(layers):
    for layer in layers:
        policy = module("h2o").Policy()
        policy.observe(layer.queries, torch.arange(layer.queries.shape[1]), layer.keys)
        assert_same_ranking(policy.heavy.read()[..., 0], layer.scores["observed"])


def test_recycled_attention_ranks_the_prompt_as_snapkv_does_by_its_last_query(layers):
    """By one query: kvpress hides from earlier ones what comes after them, the seed does not."""
    for layer in layers:
        recycled = module("recycled_attention")
        recycled.LAST, recycled.SINKS = 1, 0
        policy = recycled.Policy()
        policy.observe(layer.queries, torch.arange(layer.queries.shape[1]), layer.keys)
        scores = layer.scores["last"][:, : -recycled.WINDOW]
        assert_same_ranking(policy.order.read()[..., 0], scores)


def test_the_oracle_ranks_all_tokens_as_snapkv_does_by_the_steps_own_query(layers):
    for layer in layers:
        older = layer.keys.shape[1] - 1
        order = layer.selected("oracle_top_k", older + 1)
        order = order[order != older].view(len(order), -1)  # kvpress keeps the newest whatever its score
        assert_same_ranking(order, layer.scores["last"][:, :older])


@pytest.mark.parametrize(("name", "press"), [("streaming_llm", "streaming"), ("recent_window", "window")])
def test_windows_with_and_without_sinks_keep_what_kvpress_keeps(name, press, layers):
    for layer in layers:
        kept = layer.selected(name, KEPT).sort().values
        assert kept.shape[1] == KEPT
        for head, score in enumerate(layer.scores[press]):
            assert torch.equal(kept[head], torch.nonzero(score)[:, 0])
