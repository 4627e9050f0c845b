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


def test_numerator_and_denominator_of_a_uniform_sample_are_unbiased():
    random, query, keys, values = a_case(2, 40)
    weights = np.exp(keys @ query / np.sqrt(D))
    exact = (weights[:, None] * values).sum(0), weights.sum()
    sampled = 10
    found = [[], []]
    for _ in range(20_000):
        chosen = random.permutation(40)[:sampled]
        found[0].append((weights[chosen, None] * values[chosen]).sum(0) * 40 / sampled)
        found[1].append(weights[chosen].sum() * 40 / sampled)
    for estimates, truth in zip(map(np.array, found), exact, strict=True):
        error = estimates.std(0) / np.sqrt(len(estimates))
        assert (np.abs(estimates.mean(0) - truth) < 4 * error).all()


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
