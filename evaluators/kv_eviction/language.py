"""The part of Python and torch in which eviction policies are written."""

from evaluators.problem import Language
from evaluators.token_selection.language import BUILTINS, CONTAINERS, MATH, TENSOR, TORCH

LAYER = """
keys values positions queries attention query_mean query_covariance learnt index layers length kv_heads heads
head_size state received frequent counts append
"""

FUNCTIONS = "avg_pool1d max_pool1d isinf isfinite"

LANGUAGE = Language(
    modules={"torch": frozenset((TORCH + FUNCTIONS).split()), "math": frozenset(MATH.split())},
    attributes=frozenset((TENSOR + LAYER + CONTAINERS).split()),
    builtins=frozenset(BUILTINS.split()),
    provided=frozenset(),
)
