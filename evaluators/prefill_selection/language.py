"""The part of Python and torch in which prefill policies are written: token selection's, with other reads."""

from evaluators.problem import Language
from evaluators.token_selection.language import BUILTINS, CONTAINERS, MATH, TENSOR, TORCH

BLOCK = """
heads kv_heads begin end rows prompt layer layers spent affordable scores mean_scores compute values
"""

LANGUAGE = Language(
    modules={"torch": frozenset(TORCH.split()), "math": frozenset(MATH.split())},
    attributes=frozenset((TENSOR + BLOCK + CONTAINERS).split()),
    builtins=frozenset(BUILTINS.split()),
    provided=frozenset(),
)
