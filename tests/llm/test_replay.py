"""Whole runs with a model: recorded, killed, resumed, and repeated from their transcript."""

import pytest

from evolve.llm.replay import ReplayProposer
from evolve.llm.settings import LLM
from kvolve import KvolveError
from tests.evolve.arithmetic import PROBLEM, SEEDS
from tests.llm.runs import Run, asked, common, inventive

PROPOSALS = 40


@pytest.fixture
def recorded(tmp_path, server, model, transport) -> Run:
    server.usual = inventive()
    run = Run(tmp_path / "recorded", SEEDS + PROPOSALS)
    run.work(asked(model, transport))
    return run


def replayed(recorded: Run, model, **changed: object):
    """Proposers that answer from the transcript of a run."""
    return lambda archive: ReplayProposer(
        recorded.archive, archive, **(common() | {"models": (model(concurrency=4),)} | changed)
    )


def test_every_proposal_of_a_run_is_there_with_its_calls(recorded, server):
    archive = recorded.archive
    assert archive.completed() == SEEDS + PROPOSALS
    calls = [archive.calls(number) for number in range(SEEDS, SEEDS + PROPOSALS)]
    counts = archive.operator_counts()
    asked_for = sum(counts[name].proposals for name in ("rewrite", "diff", "crossover"))
    assert asked_for == sum(1 for of_one in calls if of_one)
    assert asked_for > 0.8 * PROPOSALS
    assert sum(map(len, calls)) == len(server.requests)
    assert archive.cost().tokens_in == 100 * len(server.requests)
    assert any(len(of_one) == 2 for of_one in calls)


def test_repeated_run_is_the_same_without_a_network(recorded, server, model, tmp_path):
    requests = len(server.requests)
    again = Run(tmp_path / "again", SEEDS + PROPOSALS)
    again.work(replayed(recorded, model))
    assert again.archive.content_hash() == recorded.archive.content_hash()
    assert again.archive.cost() == recorded.archive.cost()
    assert len(server.requests) == requests
    for number in range(SEEDS, SEEDS + PROPOSALS):
        assert again.archive.calls(number) == recorded.archive.calls(number)


def test_repetition_needs_no_model(recorded, model, tmp_path):
    again = Run(tmp_path / "again", SEEDS + PROPOSALS)
    again.work(replayed(recorded, model, models=()))
    assert again.archive.content_hash() == recorded.archive.content_hash()


def test_repeated_run_can_be_repeated(recorded, model, tmp_path):
    again, once_more = Run(tmp_path / "again", SEEDS + 9), Run(tmp_path / "more", SEEDS + 9)
    again.work(replayed(recorded, model))
    once_more.work(replayed(again, model))
    assert once_more.archive.content_hash() == again.archive.content_hash()


def test_killed_run_asks_for_no_stored_reply_again(recorded, server, model, transport, tmp_path):
    requests = len(server.requests)
    killed = Run(tmp_path / "killed", SEEDS + PROPOSALS)
    for more in (7, 19, 33):
        killed.work(asked(model, transport), lambda more=more: server.wait_for(requests + more))
    killed.work(asked(model, transport))
    assert killed.archive.content_hash() == recorded.archive.content_hash()
    prompts = [call.prompt for n in range(SEEDS, SEEDS + PROPOSALS) for call in killed.archive.calls(n)]
    assert len(prompts) == requests
    # what was under way at a kill had no reply yet
    assert len(server.requests) - 2 * requests <= 3 * 4


def test_killed_run_can_be_repeated(recorded, server, model, transport, tmp_path):
    killed, again = Run(tmp_path / "killed", SEEDS + 20), Run(tmp_path / "again", SEEDS + 20)
    killed.work(asked(model, transport), lambda: server.wait_for(len(server.requests) + 11))
    killed.work(asked(model, transport))
    again.work(replayed(killed, model))
    assert again.archive.content_hash() == killed.archive.content_hash()


def test_another_prompt_ends_the_repetition(recorded, model, tmp_path):
    from evolve.llm.prompt import Prompts

    other = {"prompts": Prompts(PROBLEM.interface.replace("cached", "kept"))}
    with pytest.raises(KvolveError, match=r"Prompt 0 of proposal .* from character \d+ on .*the runs differ"):
        Run(tmp_path / "again", SEEDS + PROPOSALS).work(replayed(recorded, model, **other))


def test_more_than_was_recorded_ends_the_repetition(recorded, model, tmp_path):
    with pytest.raises(KvolveError, match="no more evaluations"):
        Run(tmp_path / "again", SEEDS + PROPOSALS + 5).work(replayed(recorded, model))


def test_fewer_tries_make_another_run(recorded, model, tmp_path):
    other = {"settings": LLM.model_validate(common()["settings"].model_dump() | {"tries": 0})}
    again = Run(tmp_path / "again", SEEDS + PROPOSALS)
    with pytest.raises(KvolveError, match="the runs differ"):
        again.work(replayed(recorded, model, **other))
