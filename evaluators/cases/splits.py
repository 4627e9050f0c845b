"""The workloads of a problem whose cases are generated: no more than their hashes, as every judge makes them
anew.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evaluators.cases.case import Case
from evaluators.cases.problem import STAGES
from evaluators.problem import Inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


def inputs_of(
    cases: Callable[[str], Sequence[Case]],
    summary: str,
    untold: "Callable[[Any], Arrays] | None" = None,
) -> Inputs:
    """The inputs of a run: each split named after the content of its cases.

    `untold` gives the arrays of a case that decide figures, too, and are not told to a candidate.
    """
    splits = {stage: f"{stage}-{_hash(cases(stage), untold)}" for stage in STAGES}
    return Inputs(arguments={}, splits=splits, summary=summary)


def _hash(cases: Sequence[Case], untold: "Callable[[Any], Arrays] | None") -> str:
    digest = hashlib.sha256()
    for case in cases:
        content = dict(case.play().told()) | (dict(untold(case)) if untold else {})
        for name, array in sorted(content.items()):
            digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()[:16]
