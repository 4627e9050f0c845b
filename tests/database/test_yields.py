"""What proposals of models took, and what the grid gained by them, by model and operator."""

from dataclasses import replace

import pytest

from database.archive import Archive
from database.records import CallRecord, Cost, Effort, Placement, RequestRecord

EFFORT = Effort("large", 1200, 300, 0.25, 17, ("analysis paralysis", "rogue actions"))


@pytest.fixture
def seed(archive, propose, evaluate) -> str:
    hash = archive.add_proposal(propose(0, operator="seed"))
    archive.add_evaluation(0, evaluate(1.0, share=0.1))
    return hash


@pytest.fixture
def change(archive, seed, propose, evaluate):
    """Stores a change of the seed by a model, and its score; returns what the grid gained."""

    def change(number: int, score: float | None, share: float = 0.1, **fields: object) -> float:
        given = {"operator": "rewrite", "parents": (seed,), "effort": EFFORT} | fields
        archive.add_proposal(propose(number, **given))
        archive.add_evaluation(number, evaluate(score, share=share))
        return archive.gain(number)

    return change


def test_what_a_proposal_took_comes_back(archive, url, propose, seed):
    proposal = propose(1, effort=EFFORT, parents=(seed,))
    archive.add_proposal(proposal)
    assert archive.pending() == [proposal]
    assert Archive.open(url, read_only=True).pending() == [proposal]


def test_gain_is_over_whoever_held_the_cell(change):
    assert change(1, 1.25) == pytest.approx(0.25)
    assert change(2, 1.5) == pytest.approx(0.25)


def test_gain_of_an_empty_cell_is_over_the_parent(change):
    assert change(1, 1.75, share=0.9) == pytest.approx(0.75)
    assert change(2, 0.5, share=0.6) == 0


@pytest.mark.parametrize(("score", "share"), [(0.5, 0.1), (None, 0.1)])
def test_what_is_not_taken_gains_nothing(change, score, share):
    assert change(1, score, share) == 0


def test_gain_over_a_parent_that_repeats_another_is_over_its_score(archive, seed, change, propose, evaluate):
    twin = archive.add_proposal(propose(1, operator="simplify", parents=(seed,)))
    archive.add_evaluation(1, evaluate(1.0, share=0.1, duplicate_of=seed))
    assert change(2, 1.75, share=0.9, parents=(twin,)) == pytest.approx(0.75)


def test_latest_steps_are_those_of_models_in_their_order(archive, change, propose, evaluate):
    change(1, 1.5)
    change(2, None, operator="diff")
    archive.add_proposal(propose(3))
    archive.add_evaluation(3, evaluate(3.0, share=0.1))
    change(4, 1.75)
    steps = archive.latest_steps(2)
    assert [step.number for step in steps] == [2, 4]
    assert [step.number for step in archive.latest_steps(9, "rewrite")] == [1, 4]
    assert [step.effort for step in steps] == [EFFORT, EFFORT]
    assert (steps[0].placement, steps[1].placement) == (None, Placement.REJECTED)  # 3.0 has the cell


def test_step_says_whom_it_repeats(archive, seed, propose, evaluate):
    archive.add_proposal(propose(1, operator="simplify", parents=(seed,), effort=EFFORT))
    archive.add_evaluation(1, evaluate(1.0, duplicate_of=seed))
    assert [step.duplicate_of for step in archive.latest_steps(1)] == [seed]


def test_yields_are_by_model_and_operator(archive, change):
    change(1, 1.25)
    change(2, None, effort=replace(EFFORT, patterns=("rogue actions",), changed=3))
    change(3, 1.5, operator="diff", effort=replace(EFFORT, model="small", patterns=()))
    archive.add_call(CallRecord(1, 0, "large", "p", "r", 1000, 200, 300, 0.5, operator="rewrite"))
    archive.add_call(CallRecord(2, 0, "large", "p", "r", 500, 300, 0, 0.25, operator="rewrite"))
    archive.add_call(CallRecord(9, 0, "large", "p", "r", 10, 5, operator="explain"))
    diff, explain, rewrite = sorted(archive.yields(), key=lambda one: one.operator)
    assert (explain.model, explain.cost, explain.proposals) == ("large", Cost(10, 5, 0.0, 0, 1), 0)
    assert (rewrite.cost, rewrite.proposals, rewrite.scored) == (Cost(1500, 500, 0.75, 300, 2), 2, 1)
    assert (rewrite.elite, rewrite.changed) == (1, 20)
    assert rewrite.patterns == {"analysis paralysis": 1, "rogue actions": 2}
    assert rewrite.gain_per_million == pytest.approx(0.25 / 2000 * 1e6)
    assert rewrite.reasoning_per_line == 15
    assert (diff.model, diff.gain, diff.gain_per_million) == ("small", pytest.approx(0.25), None)


def test_proposals_that_were_made_together_are_stored_together_or_not_at_all(archive, url, propose):
    with pytest.raises(ValueError, match="no candidate"):
        archive.add_proposals([propose(0), propose(1, parents=("0" * 64,))])
    assert Archive.open(url, read_only=True).pending() == []
    assert len(archive.add_proposals([propose(0), propose(1)])) == 2
    assert [proposal.number for proposal in Archive.open(url, read_only=True).pending()] == [0, 1]


def test_latest_call_of_an_operator_is_the_last_one_before_a_proposal(archive):
    for number, operator in enumerate(("explain", "rewrite", "explain", "diff")):
        archive.add_call(CallRecord(number, 0, "m", "prompt", f"reply {number}", operator=operator))
    assert archive.latest_call("explain", 3) == archive.calls(2)[0]
    assert archive.latest_call("explain", 2) == archive.calls(0)[0]
    assert archive.latest_call("explain", 0) is None


def test_a_noted_choice_comes_back(archive, seed, propose, evaluate):
    noted = RequestRecord(7, (seed, seed), asked=True, remeasured=False, choice="plan large", drafts=2)
    archive.add_proposal(propose(1))
    archive.add_evaluation(1, evaluate(1.0), requests=[noted])
    assert archive.requests(2) == [noted]
