"""What a proposer is told about a candidate: where its error comes from, in plain sentences."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def feedback(
    budgets: Sequence[float],
    layer_errors: "NDArray[np.float64]",
    metrics: Mapping[str, float],
    descriptors: Mapping[str, float],
) -> str:
    """Sentences on error per budget and layer (layer_errors [B, L]) and on how the traffic was spent."""
    lines = [
        f"At {budget:.1%} traffic: error {metrics[f'error@{budget:.1%}']:.3f} "
        f"(95th percentile {metrics[f'p95_error@{budget:.1%}']:.2f}), used "
        f"{metrics[f'traffic@{budget:.1%}']:.2%}; "
        f"by layer: {', '.join(f'{error:.3f}' for error in errors)}."
        for budget, errors in zip(budgets, layer_errors, strict=True)
    ]
    unused = [b for b in budgets if metrics[f"traffic@{b:.1%}"] < 0.9 * b]
    if unused:
        lines.append(
            f"More than a tenth of the budget was left unused at {', '.join(f'{b:.1%}' for b in unused)}."
        )
    lines.append(
        f"{descriptors['index_share']:.0%} of the traffic was read to decide, "
        f"{descriptors['sampled_mass']:.0%} of the "
        f"attention weight came from sampled tokens, consecutive steps shared "
        f"{descriptors['locality']:.0%} of their reads."
    )
    return "\n".join(lines)
