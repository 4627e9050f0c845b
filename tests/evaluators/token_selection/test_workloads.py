import itertools

import pytest

from evaluators.token_selection.workloads import STAGES, fitted_steps
from kvolve import KvolveError


def test_a_recording_of_the_planned_length_is_used_as_planned():
    for plan in STAGES.values():
        assert fitted_steps(plan.steps, 32) == plan.steps


@pytest.mark.parametrize("recorded", [2, 3, 8, 31, 64])
def test_every_stage_finds_two_consecutive_steps_in_a_recording_of_any_length(recorded):
    for plan in STAGES.values():
        steps = fitted_steps(plan.steps, recorded)
        assert 0 <= steps[0] < steps[-1] < recorded
        assert any(after - before == 1 for before, after in itertools.pairwise(steps))


def test_a_recording_of_one_step_is_refused():
    with pytest.raises(KvolveError, match="--steps 2"):
        fitted_steps((0, 1), 1)
