"""The hybrid: a model proposes, and between its replies the built-in tuner polishes what it found."""

import hashlib

import pytest

from database.records import NO_EFFORT
from evolve.builtin.tune import BUILTIN, TUNE
from evolve.llm.replay import ReplayProposer
from evolve.llm.settings import LLM
from evolve.polish import PolishingProposer
from tests.evolve.arithmetic import SEEDS
from tests.llm.runs import Run, asked, common
from tests.llm.server import Exchange, says

PROPOSALS = 90
ASKING = LLM.model_validate({"operators": {"rewrite": 1}, "explain_every": 0, "polish": 0.4})


def with_constants(exchange: Exchange) -> None:
    """A model whose programs have two numbers to tune; they follow from the prompt."""
    prompt = "".join(message["content"] for message in exchange.body["messages"])
    drawn = int(hashlib.sha256(prompt.encode()).hexdigest(), 16)
    constants = f"SHARE = 0.{drawn % 900 + 50}\nPAGE = {drawn % 61 + 3}\n"
    program = f"{constants}\n\nclass Policy:\n    own = {drawn % 10**6}\n"
    says(f"```python\n{program}```\n")(exchange)


def hybrid(model, transport):
    """Proposers that ask a server, and polish."""
    asking = asked(model, transport, ASKING)
    return lambda archive: PolishingProposer(archive, asking(archive), ASKING.polish)


@pytest.fixture
def recorded(tmp_path, server, model, transport) -> Run:
    server.usual = with_constants
    run = Run(tmp_path / "recorded", SEEDS + PROPOSALS)
    run.work(hybrid(model, transport))
    return run


def test_a_share_of_the_proposals_polishes_what_the_model_found(recorded, server):
    archive = recorded.archive
    steps = archive.latest_steps(PROPOSALS)
    tuned = [step for step in steps if step.operator == TUNE]
    assert 0.15 * PROPOSALS < len(tuned) < 0.65 * PROPOSALS
    found = {step.hash for step in steps if step.effort.model not in ("", BUILTIN)}
    assert {step.parent for step in tuned} <= found | {step.hash for step in tuned}
    assert all(step.effort.tokens == NO_EFFORT.tokens for step in tuned)
    assert not any(archive.calls(step.number) for step in tuned)
    assert len(server.requests) == archive.cost().calls


def test_polishing_changes_numbers_and_nothing_else(recorded):
    archive = recorded.archive
    for step in archive.latest_steps(PROPOSALS, TUNE):
        parent, child = archive.candidate(step.parent).source, archive.candidate(step.hash).source
        assert child.splitlines()[2:] == parent.splitlines()[2:]
        assert child.startswith("SHARE = 0.")


def test_a_generation_learns_from_those_before_it(recorded):
    """All drafts of a search follow from its root and from the results of earlier generations."""
    archive = recorded.archive
    again = Run(recorded.folder.parent / "again", SEEDS + PROPOSALS)
    given = common() | {"settings": ASKING, "models": ()}
    again.work(lambda new: PolishingProposer(new, ReplayProposer(archive, new, **given), ASKING.polish))
    assert again.archive.content_hash() == archive.content_hash()


def test_a_killed_hybrid_goes_on_as_if_nothing_had_been(recorded, server, model, transport, tmp_path):
    killed = Run(tmp_path / "killed", SEEDS + PROPOSALS)
    for replies in (5, 17):
        known = len(server.requests)
        killed.work(hybrid(model, transport), killed_when=lambda n=replies, k=known: server.wait_for(k + n))
    killed.work(hybrid(model, transport))
    assert killed.archive.content_hash() == recorded.archive.content_hash()
