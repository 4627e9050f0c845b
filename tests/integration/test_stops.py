"""How a run of the real command ends, and goes on."""

import pytest

from tests.integration.conftest import SMALL

RUN = ("run", "token_selection", *SMALL, "--run-dir", "run", "--max-evaluations")


def test_a_target_ends_a_run_and_resume_goes_on_as_if_it_had_not_been_there(kvolve):
    text = kvolve(*RUN, 24, "--target-score", 0.3)
    assert "has reached the target of 0.3" in text
    assert "holdout, opened once" in text
    assert kvolve.inspect("run")["evaluations"] < 24
    assert "All 24 evaluations are made." in kvolve("resume", "run", "--target-score", 9)
    kvolve("run", "token_selection", *SMALL, "--run-dir", "straight", "--max-evaluations", 24)
    found, straight = kvolve.inspect("run"), kvolve.inspect("straight")
    # the finals were held twice here, so that more candidates are measured on validation
    decided_later = {"hash", "champion"}
    assert {k: v for k, v in found.items() if k not in decided_later} == {
        k: v for k, v in straight.items() if k not in decided_later
    }


def test_a_free_proposer_reaches_no_limit_of_cost(kvolve):
    assert "All 11 evaluations are made." in kvolve(*RUN, 11, "--max-cost", 0.01, "--max-tokens", 1)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--max-cost", "-1"),
        ("--max-cost", "nan"),
        ("--max-tokens", "0"),
        ("--target-score", "inf"),
        ("--stagnation", "0"),
        ("--strategy", "luck"),
        ("--selection", "luck"),
    ],
)
def test_a_bad_limit_is_said_in_one_sentence(kvolve, flag, value):
    message = kvolve(*RUN, 18, flag, value, code=2)
    assert f"The setting {flag[2:].replace('-', '_')!r} is" in message
    assert len(message.strip().splitlines()) == 1
    assert not (kvolve.folder / "run").exists()
