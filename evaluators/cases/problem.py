"""What the registered problems of this kind have in common; numpy is imported only where it is needed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STAGES = ("probe", "second_probe", "search", "validation", "holdout")


def mean_figure(samples: "NDArray[np.float64]") -> float:
    """The score from samples [cases, 1, 1]: the mean of the figures."""
    return float(samples.mean())
