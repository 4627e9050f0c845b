"""The one estimator that turns a policy's selection into attention: inverse-probability weights, in log
space.

`o_hat = sum_i exp(s_i) / p_i v_i / sum_i exp(s_i) / p_i` over the selected tokens (Horvitz-Thompson in
numerator and denominator), so a policy can neither return outputs nor choose its own weights.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def attention_weights(
    scores: "NDArray[np.float32]", counts: "NDArray[np.int32]", probabilities: "NDArray[np.float32]"
) -> "NDArray[np.float32]":
    """Normalised weights of the selected tokens, row after row.

    Arguments:
        scores: [K], the scores `q.k / sqrt(D)` of the selected tokens of all rows, flat.
        counts: [R], how many of them belong to each row; at least 1 each.
        probabilities: [K], inclusion probabilities in (0, 1].

    Returns: [K] float32, summing to one in each row.
    """
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    logits = scores - np.log(probabilities)
    logits -= np.repeat(np.maximum.reduceat(logits, starts), counts)
    weights = np.exp(logits)
    weights /= np.repeat(np.add.reduceat(weights, starts), counts)
    return weights


def dense_scores(queries: "NDArray[np.float32]", keys: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Scores of all tokens: queries [S, H, D] and keys [G, N, D] give [S, H, N], scaled by 1 / sqrt(D)."""
    steps, heads, size = queries.shape
    kv_heads = keys.shape[0]
    grouped = queries.reshape(steps, kv_heads, heads // kv_heads, size)
    scores = np.einsum("sgrd,gnd->sgrn", grouped, keys, optimize=True) / np.float32(np.sqrt(size))
    return np.ascontiguousarray(scores.reshape(steps, heads, -1))


def weighted_values(weights: "NDArray[np.float32]", values: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Outputs of all heads: weights [R, H, N] and values [G, N, D] give [R, H, D]."""
    rows, heads, tokens = weights.shape
    kv_heads = values.shape[0]
    # one product for each KV head, over all rows of its query heads
    grouped = weights.reshape(rows, kv_heads, -1, tokens).swapaxes(0, 1).reshape(kv_heads, -1, tokens)
    outputs: NDArray[np.float32] = np.matmul(grouped, values)
    return outputs.reshape(kv_heads, rows, -1, values.shape[2]).swapaxes(0, 1).reshape(rows, heads, -1)
