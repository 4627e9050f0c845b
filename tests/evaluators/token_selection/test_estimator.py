"""The estimator agrees with the formula, and its sampling with theory: on states recorded in a real model."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.token_selection.estimator import attention_weights, dense_scores, weighted_values
from evaluators.token_selection.reference import dense_output, estimate, relative_error

D = 8


def a_case(seed: int, tokens: int):
    random = np.random.default_rng(seed)
    query = random.normal(size=D).astype(np.float32) * 3
    keys, values = random.normal(size=(2, tokens, D)).astype(np.float32)
    return random, query, keys, values


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_flat_weights_agree_with_the_reference(seed, tokens, rows):
    random, query, keys, values = a_case(seed, tokens)
    counts = random.integers(1, tokens + 1, size=rows)
    picked = [random.permutation(tokens)[:count] for count in counts]
    probabilities = [random.uniform(0.01, 1, size=count).astype(np.float32) for count in counts]
    scores = (keys @ query / np.sqrt(D)).astype(np.float32)

    weights = attention_weights(
        scores[np.concatenate(picked)], counts.astype(np.int32), np.concatenate(probabilities)
    )

    for row, part in enumerate(np.split(weights, np.cumsum(counts)[:-1])):
        expected = estimate(query, keys, values, picked[row].tolist(), probabilities[row].tolist())
        assert np.allclose(part @ values[picked[row]], expected, atol=1e-4)


def test_reading_everything_is_dense_attention():
    _, query, keys, values = a_case(1, 50)
    weights = attention_weights(
        (keys @ query / np.sqrt(D)).astype(np.float32), np.array([50], np.int32), np.ones(50, np.float32)
    )
    assert relative_error(weights @ values, dense_output(query, keys, values)) < 1e-6


def test_scores_beyond_the_range_of_exp_do_not_overflow():
    weights = attention_weights(
        np.array([5_000.0, 4_999.0], np.float32), np.array([2], np.int32), np.array([1.0, 1e-6], np.float32)
    )
    assert weights.sum() == pytest.approx(1)
    assert np.isfinite(weights).all()


def test_query_heads_read_the_key_head_of_their_group():
    random = np.random.default_rng(3)
    queries = random.normal(size=(2, 6, D)).astype(np.float32)
    keys = random.normal(size=(3, 5, D)).astype(np.float32)
    scores = dense_scores(queries, keys)
    for step in range(2):
        for head in range(6):
            assert np.allclose(
                scores[step, head], keys[head // 2] @ queries[step, head] / np.sqrt(D), atol=1e-5
            )
    outputs = weighted_values(scores, keys)
    assert np.allclose(outputs[1, 5], scores[1, 5] @ keys[2], atol=1e-4)


SINKS, WINDOW, HEAVY = 16, 32, 0.05  # what vAttention reads for certain (arXiv:2510.05688); the share is ours
DRAWS = 10_000
SIGMAS = 5  # a test compares hundreds of figures, each nearly normal about its expectation
SHARES = (0.05, 0.25, 0.5)  # b/n: of the tokens that are left, those that are sampled


@dataclass(frozen=True)
class Head:
    """One query head at one recorded step, and the tokens that it does not read for certain."""

    scores: np.ndarray  # [N]
    values: np.ndarray  # [N, D]
    rest: np.ndarray  # [n]

    @property
    def terms(self) -> np.ndarray:
        """What each token adds to the numerator, and to the denominator in the last column [N, D + 1]."""
        weights = np.exp(self.scores - self.scores.max())[:, None]
        return np.concatenate([weights * self.values, weights], axis=1)

    @property
    def certain(self) -> np.ndarray:
        return np.setdiff1d(np.arange(len(self.scores)), self.rest)

    def estimates(self, counted: np.ndarray) -> np.ndarray:
        """Numerators and denominators [draws, D + 1]; `counted` [draws, n] is 1/p for sampled tokens."""
        return self.terms[self.certain].sum(0) + counted @ self.terms[self.rest]

    def must_agree(self, estimates: np.ndarray, variances: np.ndarray) -> None:
        """Asserts their mean, the denominator's variance and the trace of the numerator's covariance."""
        off = estimates - self.terms.sum(0)
        assert (np.abs(off.mean(0)) < SIGMAS * np.sqrt(variances / len(off))).all()
        for columns in (slice(-1, None), slice(0, -1)):
            squares, expected = (off[:, columns] ** 2).sum(1), variances[columns].sum()
            error = squares.std() / np.sqrt(len(squares))
            assert abs(squares.mean() - expected) < SIGMAS * error
            assert error < 0.05 * expected  # so that a wrong prediction would show


@pytest.fixture(scope="module")
def heads(judge) -> list[Head]:
    """A query head for each KV head and recorded layer, at the first decode step."""
    workload = judge.open("search").workload
    length = workload.length(0)
    found = []
    for layer in workload.contexts[0]:
        keys, values = (part[:, :length].astype(np.float64) for part in (layer.keys, layer.values))
        group = layer.queries.shape[1] // len(keys)
        for kv_head, row in enumerate(dense_scores(layer.queries[:1], keys)[0, ::group]):
            by_score = SINKS + np.argsort(-row[SINKS : length - WINDOW])
            found.append(Head(row, values[kv_head], np.sort(by_score[round(HEAVY * length) :])))
    return found


def sets(random: np.random.Generator, tokens: int, sampled: int, draws: int = DRAWS) -> np.ndarray:
    """Which tokens [draws, n] each draw has: uniform sets of `sampled` of them."""
    order = random.random((draws, tokens)).argpartition(sampled, axis=1)
    chosen = np.zeros((draws, tokens))
    np.put_along_axis(chosen, order[:, :sampled], 1.0, axis=1)
    return chosen


def times_drawn(random: np.random.Generator, tokens: int, sampled: int) -> np.ndarray:
    """How often each token is drawn [draws, n] when `sampled` are drawn with replacement."""
    drawn = random.integers(tokens, size=(DRAWS, sampled)) + tokens * np.arange(DRAWS)[:, None]
    return np.bincount(drawn.ravel(), minlength=DRAWS * tokens).reshape(DRAWS, tokens).astype(float)


def test_attention_is_the_ratio_of_the_sampled_numerator_and_denominator(heads):
    """So that what is tested of the two holds for the estimator."""
    random = np.random.default_rng(4)
    for head in heads:
        tokens = len(head.rest)
        probabilities = random.uniform(0.1, 1, tokens)
        chosen = sets(random, tokens, tokens // 4, draws=1)
        read = np.concatenate([head.certain, head.rest[chosen[0] > 0]])
        likely = np.concatenate([np.ones(len(head.certain)), probabilities[chosen[0] > 0]])
        *numerator, denominator = head.estimates(chosen / probabilities)[0]
        weights = attention_weights(
            head.scores[read].astype(np.float32), np.array([len(read)], np.int32), likely.astype(np.float32)
        )
        assert np.allclose(weights @ head.values[read], np.array(numerator) / denominator, atol=1e-4)


@pytest.mark.parametrize("share", SHARES)
def test_uniform_samples_are_unbiased_and_vary_as_predicted(share, heads):
    """Without replacement, p = b/n: the variance of a sum is n^2/b S^2 (1 - b/n)."""
    tokens = len(heads[0].rest)
    sampled = round(share * tokens)
    counted = sets(np.random.default_rng(5), tokens, sampled) * tokens / sampled
    for head in heads:
        spread = head.terms[head.rest].var(axis=0, ddof=1)
        variances = tokens**2 / sampled * spread * (1 - sampled / tokens)
        head.must_agree(head.estimates(counted), variances)


@pytest.mark.parametrize("share", SHARES)
def test_independent_samples_are_unbiased_and_vary_as_predicted(share, heads):
    """Each token has a probability of its own: the variance of a sum is the sum of w^2 (1 - p)/p."""
    uniform = np.random.default_rng(6).random((DRAWS, len(heads[0].rest)))
    for head in heads:
        terms = head.terms[head.rest]
        likely = np.sqrt(terms[:, -1])  # by weight, but less than in proportion, as by an uncertain index
        probabilities = np.clip(likely * share / likely.mean(), 0.02, 1)
        variances = (terms**2 * ((1 - probabilities) / probabilities)[:, None]).sum(0)
        head.must_agree(head.estimates((uniform < probabilities) / probabilities), variances)


@pytest.mark.parametrize("share", SHARES)
def test_draws_with_replacement_are_unbiased_while_their_multiplicity_is_kept(share, heads):
    """Their variance n^2/b S^2 (n - 1)/n has no correction for a finite population."""
    tokens = len(heads[0].rest)
    sampled = round(share * tokens)
    counted = times_drawn(np.random.default_rng(7), tokens, sampled) * tokens / sampled
    for head in heads:
        variances = tokens**2 / sampled * head.terms[head.rest].var(axis=0)
        head.must_agree(head.estimates(counted), variances)


@pytest.mark.parametrize(("share", "left"), [(0.05, 0.975), (0.25, 0.885), (0.5, 0.787), (1.0, 0.632)])
def test_dropping_duplicates_shrinks_what_is_left_by_a_known_factor(share, left, heads):
    """The bias (1 - e^-p)/p of published vAttention code, which draws with replacement into a mask."""
    tokens = len(heads[0].rest)
    sampled = round(share * tokens)
    drawn = times_drawn(np.random.default_rng(8), tokens, sampled) > 0
    expected = (1 - (1 - 1 / tokens) ** sampled) * tokens / sampled
    assert expected == pytest.approx(left, abs=2e-3)
    # a token is missed with probability (1 - 1/n)^b, and two of them with (1 - 2/n)^b
    missed, both = (1 - 1 / tokens) ** sampled, (1 - 2 / tokens) ** sampled
    for head in heads:
        weights = head.terms[head.rest, -1]
        squares = (weights**2).sum()
        variance = squares * (missed - missed**2) + (weights.sum() ** 2 - squares) * (both - missed**2)
        found = drawn @ weights * tokens / sampled
        error = np.sqrt(variance / DRAWS) * tokens / sampled
        assert abs(found.mean() - expected * weights.sum()) < SIGMAS * error
        if share > 0.05:  # there the bias of one head is lost in its noise
            assert abs(found.mean() - weights.sum()) > SIGMAS * error
