"""Are the inclusion probabilities of a policy true? A wrong p would buy a better figure, so it is tested."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.evaluation import CandidateError, FailureKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

STANDARD_ERRORS = 4.0
FLOOR = 0.01  # relative; below this a fixed-size sample has no spread to measure


def check_inclusion(drawn: Mapping[str, "NDArray[Any]"], scores: "NDArray[np.float32]") -> None:
    """Raises CandidateError unless the mean of 1[i in I] / p_i is 1 within 4 standard errors.

    `drawn` holds R draws of one decode step that differ in the random numbers only; `scores` [H, N] are its
    dense scores. Tokens that the first half of the draws ever picked form a set U that is independent of the
    second half, so there E[sum over picked U of f_i / p_i] = sum over U of f_i for any f. It is tested for f
    = 1 and for f = the dense attention weight, where a bias would pay.
    """
    counts = drawn["counts"]
    draws, heads = counts.shape
    tokens = scores.shape[1]
    inverse = np.zeros((draws * heads, tokens), np.float64)
    rows = np.repeat(np.arange(draws * heads), counts.ravel())
    inverse[rows, drawn["indices"]] = 1.0 / drawn["probabilities"].astype(np.float64)
    inverse = inverse.reshape(draws, heads, tokens)
    half = draws // 2
    picked = inverse[:half] > 0
    support = picked.any(0)  # [H, N]
    # mean 1/p of a token over the draws that picked it; its variance is then 1/p - 1 (an upper bound without
    # replacement)
    spread = np.maximum(inverse[:half].sum(0) / np.maximum(picked.sum(0), 1) - 1, 0)
    weights = np.exp(scores - scores.max(1, keepdims=True)).astype(np.float64)
    for name, of_token in (("count", np.ones_like(weights)), ("attention", weights)):
        expected = (of_token * support).sum(1)  # [H]
        found = (inverse[half:] * (of_token * support)).sum(2)  # [draws - half, H]
        mean = found.mean(0)
        # rarely picked tokens may be missed by all draws, which then show no spread: the greater variance
        # counts
        variance = np.maximum(found.var(0, ddof=1), (of_token**2 * support * spread).sum(1))
        off = (
            np.abs(mean - expected) > STANDARD_ERRORS * np.sqrt(variance / (draws - half)) + FLOOR * expected
        )
        if off.any():
            head = int(off.argmax())
            raise CandidateError(
                FailureKind.INVALID_OUTPUT,
                f"The inclusion probabilities are wrong: over {draws - half} draws the mean of 1[selected] "
                f"/ p is "
                f"{mean[head] / expected[head]:.3f} instead of 1 (head {head}, weighted by {name}). Return "
                f"for each "
                "token the probability with which it is selected; 1 where it always is.",
            )
