"""What a proposer is told about a candidate: where its error comes from, in plain sentences."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALIKE = 1.05  # times the mean that a layer may compute and be told with the others


def feedback(
    budgets: Sequence[float],
    layer_errors: "NDArray[np.float64]",
    layer_computed: "NDArray[np.float64]",
    metrics: Mapping[str, float],
    descriptors: Mapping[str, float],
) -> str:
    """Sentences on errors and computed fractions per budget and layer [B, L], and on what was computed."""
    lines = []
    for budget, errors, computed in zip(budgets, layer_errors, layer_computed, strict=True):
        at = f"@{budget:.1%}"
        line = (
            f"At {budget:.1%} computed: error {metrics[f'error{at}']:.3f} "
            f"(95th percentile {metrics[f'p95_error{at}']:.2f}), used {metrics[f'computed{at}']:.2%} "
            f"({metrics[f'deciding{at}']:.2%} to decide), where {metrics[f'recall{at}']:.1%} of the "
            f"attention is; by layer: {_figures(errors)}"
        )
        uneven = computed.max() > ALIKE * computed.mean()
        lines.append(line + (f" (computing {', '.join(f'{c:.2%}' for c in computed)})." if uneven else "."))
    unused = [b for b in budgets if metrics[f"computed@{b:.1%}"] < 0.9 * b]
    if unused:
        lines.append(
            f"More than a tenth of the budget was left unused at {', '.join(f'{b:.1%}' for b in unused)}."
        )
    lines.append(
        f"{descriptors['deciding_share']:.0%} of what was computed served to decide, columns came in runs of "
        f"about {2 ** descriptors['run_length']:.0f}, and the columns of the heads differed by "
        f"{descriptors['head_spread']:.0%} of their mean."
    )
    return "\n".join(lines)


def _figures(errors: "NDArray[np.float64]") -> str:
    return ", ".join(f"{error:.3f}" for error in errors)
