"""What a proposer is told about a candidate: where its error comes from, in plain sentences."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALIKE = 1.05  # times the mean traffic that a layer may have and be told with the others


def feedback(
    budgets: Sequence[float],
    layer_errors: "NDArray[np.float64]",
    layer_traffic: "NDArray[np.float64]",
    metrics: Mapping[str, float],
    descriptors: Mapping[str, float],
) -> str:
    """Sentences on errors and traffic per budget and layer [B, L], and on what the traffic was spent for.

    The traffic of single layers is told where they differ: where a policy shares its budget out.
    """
    lines = [
        f"At {budget:.1%} traffic: error {metrics[f'error@{budget:.1%}']:.3f} "
        f"(95th percentile {metrics[f'p95_error@{budget:.1%}']:.2f}), used "
        f"{metrics[f'traffic@{budget:.1%}']:.2%}; "
        f"by layer: {', '.join(f'{error:.3f}' for error in errors)}{_reading(read)}."
        for budget, errors, read in zip(budgets, layer_errors, layer_traffic, strict=True)
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


def _reading(read: "NDArray[np.float64]") -> str:
    if read.max() <= ALIKE * read.mean():
        return ""
    return f" (reading {', '.join(f'{share:.2%}' for share in read)})"
