"""What the judge lets pass, what it refuses, and that budgets hold whatever a policy asks for."""

import numpy as np
import pytest

from evaluators.evaluation import CandidateError
from evaluators.kv_eviction.decoding import Decoding
from evaluators.kv_eviction.storage import BITS
from evaluators.problem import get_problem

pytestmark = pytest.mark.weights

NEWEST = """
import torch

class Policy:
    def score(self, layer):
        {body}
        scores = layer.positions.float()
        {after}
        return scores
{methods}
"""

METHODS = {
    "tiers": "return {'tiers': [(0.3, 8, 4), (0.7, 2, 2)]}",
    "channels": "return {'key_channels': 0.5}",
    "thin": "return {'key_density': 0.4, 'value_density': 0.7}",
    "repaired": "return {'tiers': [(1, 4, 4)], 'rank': 3, 'outliers': 0.03}",
    "pair": "return {'pair': 0.6} if layer.index > layer.layers // 2 else {}",
}


def policy(body: str = "pass", after: str = "pass", **methods: str) -> str:
    arguments = {
        "format": "layer, budget",
        "allocate": "scores, budget",
        "merge": "layer, kept",
        "observe": "layer",
        "channels": "layer",
    }
    text = ""
    for name, lines in methods.items():
        text += f"    def {name}(self, {arguments[name]}):\n"
        text += "".join(f"        {line}\n" for line in lines.split("; "))
    return NEWEST.format(body=body, after=after, methods=text)


MERGING = {
    "format": "return {'counts': True}",
    "merge": "at = kept.clamp(min=0)[..., None].expand(-1, -1, layer.head_size); "
    "counts = torch.full(kept.shape, 2.0); "
    "return layer.keys.gather(1, at), layer.values.gather(1, at), counts",
}
REMEMBERING = {
    "observe": "new = layer.received[..., None]; return new if layer.state is None else layer.state + new",
}


def refusal(examine, source: str) -> CandidateError:
    with pytest.raises(CandidateError) as caught:
        examine(source)
    return caught.value


@pytest.mark.parametrize("form", METHODS.values(), ids=METHODS)
def test_the_whole_budget_is_the_dense_model_bit_for_bit(examine, form):
    examination = examine(policy(format=form, **REMEMBERING), "whole")
    (outcome,) = examination.outcomes[0]
    assert (outcome.measured.kl == 0).all()
    assert outcome.measured.nll == 0
    assert (outcome.measured.answers == 0).all()
    assert examination.value()["score"] == 1


@pytest.mark.parametrize("methods", [{"format": form} for form in METHODS.values()] + [MERGING, REMEMBERING])
def test_bytes_stay_within_the_budget_and_use_most_of_it(examine, judge, methods):
    examination = judge.examine("probe", policy(**methods))
    turns = []
    remember = examination._first
    examination._first = lambda *args, **named: turns.append(remember(*args, **named)) or turns[-1]
    from evaluators.kv_eviction.actor import open_actor

    actor = open_actor()
    while examination.another_process():
        examination.take(actor.act(policy(**methods), examination.answer))
    for turn in (turn for group in turns for turn in group):
        assert 0.9 * turn.total_bytes < turn.plan.bytes <= turn.total_bytes


def test_tokens_with_the_highest_scores_stay(examine):
    first = examine(policy(after="scores = -scores"), "search")
    newest = examine(policy(), "search")
    assert first.outcomes[0][0].shape.recency < 0.2
    assert newest.outcomes[0][0].shape.recency > 0.8
    assert newest.outcomes[0][1].measured.kl.mean() > newest.outcomes[0][0].measured.kl.mean()


def test_bytes_go_where_the_shares_say(examine):
    shares = "return torch.ones(len(scores), len(scores[0])) + 2 * torch.arange(len(scores))[:, None]"
    even, uneven = (examine(policy(**methods), "search") for methods in ({}, {"allocate": shares}))
    assert even.outcomes[0][0].shape.spread == pytest.approx(0, abs=1e-6)
    assert uneven.outcomes[0][0].shape.spread > 0.4


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (policy(after="scores[0, 0] = float('nan')"), "finite"),
        (policy(after="scores[0, 0] = -float('inf')"), "finite"),
        (policy(after="scores = scores[:, 1:]"), "score has to return"),
        (policy(after="scores = 1"), "tensor"),
        (policy(allocate="return [[0.0]]"), "allocate has to return"),
        (policy(allocate="return torch.zeros(len(scores), len(scores[0]))"), "positive"),
        (policy(format="return {'bits': 4}"), "tiers"),
        (policy(format="return {'tiers': [(1, 5, 16)]}"), ", ".join(map(str, BITS))),
        (policy(format="return {'counts': True}"), "merge"),
        (policy(merge="return layer.keys, layer.values, None"), "merge has to return"),
        (policy(merge="return layer.keys"), "merge has to return"),
        (policy(observe="return layer.received"), "observe has to return"),
        (policy(observe="return torch.zeros(layer.kv_heads, layer.keys.shape[1], 9)"), "up to 8"),
        (policy(after="scores += 99 * torch.rand(scores.shape)"), "otherwise"),
        ("class Other: pass", "class Policy"),
    ],
)
def test_what_breaks_the_rules_is_refused(examine, source, said):
    assert said in str(refusal(examine, source))


def test_every_policy_has_tensors_of_its_own(examine):
    spoiled = policy(body="layer.keys.zero_(); layer.attention.zero_()", after="scores += layer.keys.sum()")
    plain = examine(policy(), "probe").value()["behaviour"]
    assert examine(spoiled, "probe").value()["behaviour"] == plain


def test_a_block_is_observed_before_the_next_one_is_there(examine):
    lines = (
        "assert layer.length == layer.keys.shape[1] == layer.received.shape[1]; "
        "assert float(layer.received[:, -64:].sum()) > 0; "
        "assert layer.state is None or layer.state.shape[1] == layer.length; "
        "return torch.full((layer.kv_heads, layer.length, 1), layer.length / 64)"
    )
    after = "assert layer.length == layer.state.shape[1]; scores = scores + layer.state[..., 0]"
    found = examine(policy(observe=lines, after=after)).value()["behaviour"]
    assert found == examine(policy(**REMEMBERING)).value()["behaviour"]


def test_merging_writes_what_it_wants_and_counts(examine):
    nothing = policy(merge="z = torch.zeros(*kept.shape, layer.head_size); return z, z, None")
    plain, merged, empty = (
        examine(source, "search").outcomes[0][0]
        for source in (policy(), policy(**MERGING), policy() + nothing)
    )
    assert merged.measured.kl.mean() != plain.measured.kl.mean()
    assert empty.measured.kl.mean() > plain.measured.kl.mean()
    assert merged.shape.overhead > 0.9


def test_a_cache_stays_bounded_while_text_is_generated(examine, monkeypatch):
    most = []
    follow = Decoding.follow

    def followed(self, model, turn, chunk):
        assert turn.plan.bytes + len(chunk) * 4 * 64 * 3 * 30 <= self.budget * self.cached.bytes
        found = follow(self, model, turn, chunk)
        most.append((self.budget, max(int(tokens.sizes.max()) for tokens in self.tokens)))
        return found

    monkeypatch.setattr(Decoding, "follow", followed)
    sinks = "scores = scores.masked_fill(layer.positions < 4, float('inf'))"
    examination = examine(policy(after=sinks, **REMEMBERING), "decode")
    length = examination.contexts[0].length
    assert [budget for budget, _ in most] == [2.0, 0.75, 0.5] * 2
    assert all(tokens <= budget * length for budget, tokens in most)
    whole, three_quarters, half = (outcome.decoded_kl for outcome in examination.outcomes[0])
    assert whole < 1e-6  # nothing leaves: what is generated is what the model makes of the whole text
    assert 0.01 < three_quarters < half


def test_the_protocol_has_no_other_order(judge):
    examination = judge.examine("probe", policy())
    assert examination.another_process()
    for question in ("layer", "scored", "stored", "blocks"):
        with pytest.raises(CandidateError, match="out of turn"):
            examination.answer(question, {"layer": np.array(0)})
    assert examination.answer("begin", {})["layers"] == 10
    for number in (10, -1, 2**40):
        with pytest.raises(CandidateError, match="out of turn"):
            examination.answer("layer", {"layer": np.array(number)})
    for question in ("begin", "stored", "nothing"):
        with pytest.raises(CandidateError, match="out of turn"):
            examination.answer(question, {"layer": np.array(0)})
    with pytest.raises(CandidateError, match="out of turn"):
        examination.take({})


def test_a_probe_tells_published_policies_apart(examine):
    """A window that is wider than a budget would make all that protect it alike."""
    seeds = [seed for seed in get_problem("kv_eviction").seeds() if seed.role != "bound"]
    alike: dict[str, set[str]] = {}
    for seed in seeds:
        alike.setdefault(examine(seed.source).value()["behaviour"], set()).add(seed.name)
    # of 384 tokens LagKV keeps all that is newer than its last whole partition, and these are enough
    assert {frozenset(names) for names in alike.values() if len(names) > 1} <= {
        frozenset({"lagkv", "streaming_llm"})
    }
