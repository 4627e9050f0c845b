"""Seeds of kv_eviction keep the tokens that kvpress keeps, on the same tensors.

Scorers without attention see a prompt of 992 tokens, the others the 256 tokens of which all attention is
known.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.seeds.eviction import (
    LAYERS,
    causal_attention,
    kept,
    observed,
    policy,
    prompt,
    tensors,
)

KEPT = 96  # of 256: more than a window


@pytest.fixture(scope="module")
def kvpress(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    if importlib.util.find_spec("kvpress") is None:
        pytest.skip("kvpress is not installed; `make install` does it")
    given = {}
    for number in LAYERS:
        layer = prompt(number)
        given |= {
            f"keys.{number}": layer.keys,
            f"values.{number}": layer.values,
            f"queries.{number}": layer.queries,
            f"mean.{number}": layer.query_mean,
            f"covariance.{number}": layer.query_covariance,
            f"near_keys.{number}": tensors(number)[1],
            f"attention.{number}": causal_attention(number),
        }
    folder = tmp_path_factory.mktemp("kvpress")
    save_file({name: part.contiguous() for name, part in given.items()}, folder / "in")
    script = Path(__file__).with_name("kvpress_eviction.py")
    subprocess.run([sys.executable, script, folder / "in", folder / "out", str(KEPT)], check=True)
    return load_file(folder / "out")


def assert_same_tokens(mine: torch.Tensor, theirs: torch.Tensor, count: int) -> None:
    """`count` tokens of each head: the same ones, but for those whose scores are equal up to rounding."""
    for head, (own, score) in enumerate(zip(mine, theirs, strict=True)):
        chosen, expected = (set(kept(part[None], count)[0].tolist()) for part in (own, score))
        least = float(score[list(expected)].min())
        for token in chosen ^ expected:
            assert float(score[token]) == pytest.approx(least, rel=1e-4), (head, token)


@pytest.mark.parametrize("count", [124, 248, 496])
@pytest.mark.parametrize("name", ["knorm", "keydiff", "expected_attention"])
def test_scores_of_a_prompt_keep_what_kvpress_keeps(name, count, kvpress):
    for number in LAYERS:
        assert_same_tokens(policy(name).score(prompt(number)), kvpress[f"{name}.{number}"], count)


@pytest.mark.parametrize("count", [300, 496])
def test_lagkv_keeps_what_kvpress_keeps_where_its_last_partition_fits(count, kvpress):
    """Below that kvpress keeps any of the newest tokens, which are equal to it, the seed the last ones."""
    for number in LAYERS:
        assert_same_tokens(policy("lagkv").score(prompt(number)), kvpress[f"lagkv.{number}"], count)


def test_channels_that_think_drops_are_those_that_kvpress_drops(kvpress):
    for number in LAYERS:
        importance, stays = policy("think").channels(prompt(number)), kvpress[f"think.{number}"]
        dropped = importance.topk(int(0.4 * 64), largest=False).indices
        assert (stays.gather(1, dropped) == 0).all()
        assert (stays.sum(1) == 64 - dropped.shape[1]).all()


def newest(name: str, number: int) -> tuple[torch.Tensor, object]:
    """Scores [G, 256] of a seed of a layer whose blocks it has observed, and the layer."""
    observer, layer = observed(name, number)
    return observer.score(layer), layer


def test_snapkv_keeps_what_kvpress_keeps(kvpress):
    for number in LAYERS:
        assert_same_tokens(newest("snapkv", number)[0], kvpress[f"snapkv.{number}"], KEPT)


def test_tova_keeps_what_kvpress_keeps(kvpress):
    for number in LAYERS:
        assert_same_tokens(newest("tova", number)[0], kvpress[f"tova.{number}"], KEPT)


def test_streaming_llm_keeps_what_kvpress_keeps(kvpress):
    for number in LAYERS:
        scores = newest("streaming_llm", number)[0]
        for mine, theirs in zip(kept(scores, KEPT), kvpress[f"streaming_llm.{number}"], strict=True):
            assert torch.equal(mine, torch.nonzero(theirs)[:, 0])


def test_importance_in_zipcache_is_the_observed_attention_of_kvpress(kvpress):
    for number in LAYERS:
        scores = newest("zipcache", number)[0]
        assert torch.allclose(scores, kvpress[f"h2o.{number}"], rtol=0.01, atol=1e-6)


def test_h2o_sums_the_attention_whose_mean_kvpress_takes(kvpress):
    """The paper sums over queries; kvpress divides by how many see a token, and protects no newest ones."""
    for number in LAYERS:
        scores, theirs = newest("h2o", number)[0], kvpress[f"h2o.{number}"]
        older = (scores < torch.inf).all(0).nonzero()[:, 0]
        assert len(older) >= KEPT
        seeing = scores.shape[1] - older
        assert_same_tokens(scores[:, older], theirs[:, older] * seeing, KEPT // 2)


def test_adakv_gives_each_head_the_tokens_that_kvpress_gives_it(kvpress):
    """The paper mixes them with a fifth of an equal share, which kvpress takes for a minimum only."""
    for number in LAYERS:
        observer, layer = observed("adakv", number)
        mixed = observer.allocate([observer.score(layer)], KEPT / layer.length)[0]
        shares = mixed / mixed.sum() - 0.2 / len(mixed)
        theirs = kvpress[f"adakv.{number}"].sum(1)
        assert torch.allclose(shares / shares.sum() * theirs.sum(), theirs, atol=1.5)


def test_pyramidkv_gives_each_layer_the_tokens_that_kvpress_gives_it(kvpress):
    """4096 tokens, of which 1280 stay: with fewer kvpress falls back to equal layers."""
    theirs = kvpress["pyramidkv"].float()
    assert theirs[0] > 10 * theirs[-1]
    observer, layer = observed("pyramidkv", 0)
    observer.score(layer)
    shares = observer.allocate([torch.zeros(3, 4096)] * len(theirs), 1280 / 4096)[:, 0]
    assert torch.allclose(shares / shares.sum() * theirs.sum(), theirs, atol=1.5)
