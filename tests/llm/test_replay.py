"""Whole runs with a model: recorded, killed, resumed, and repeated from their transcript."""

import pytest

from evolve.llm.proposer import LLMProposer
from evolve.llm.replay import ReplayProposer
from evolve.llm.settings import LLM, Model
from kvolve import KvolveError
from tests.evolve.arithmetic import PROBLEM, SEEDS
from tests.llm.runs import ASKING, Run, asked, common, inventive

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
        recorded.archive,
        archive,
        **(common() | {"models": (model(concurrency=4), model(name="other"))} | changed),
    )


def test_every_proposal_of_a_run_is_there_with_its_calls(recorded, server):
    archive = recorded.archive
    assert archive.completed() == SEEDS + PROPOSALS
    made = {step.operator for step in archive.latest_steps(PROPOSALS)}
    assert made >= {"rewrite", "diff", "crossover", "plan", "simplify"}
    asked = [call for n in range(SEEDS, SEEDS + PROPOSALS + 1) for call in archive.calls(n)]
    assert len(asked) == len(server.requests) == archive.cost().calls
    assert {call.operator for call in asked} == made | {"explain"}
    assert archive.cost().tokens_in == 100 * len(server.requests)
    by_operator = archive.yields()
    assert sum(one.cost.calls for one in by_operator) == len(asked)
    assert sum(one.gain for one in by_operator) > 0


def test_what_proposals_took_adds_up_to_their_calls(recorded):
    archive = recorded.archive
    efforts = [step.effort for step in archive.latest_steps(PROPOSALS)]
    efforts += [proposal.effort for proposal in archive.pending()]  # of a group that the limit cuts
    explained = sum(one.cost.tokens_in + one.cost.tokens_out for one in archive.yields() if not one.proposals)
    cost = archive.cost()
    pairs = sum(one.proposals for one in archive.yields() if one.operator == "plan") // 2 + 1
    total = cost.tokens_in + cost.tokens_out - explained
    odd = total - sum(effort.tokens for effort in efforts)  # a token that two proposals cannot share
    assert 0 <= odd <= pairs


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


def test_stopped_run_takes_up_its_conversations(recorded, server, model, transport, tmp_path):
    requests = len(server.requests)
    stopped = Run(tmp_path / "stopped", SEEDS + PROPOSALS)
    for more in (5, 12, 23, 37):
        stopped.work(asked(model, transport), stopped_when=lambda more=more: server.wait_for(requests + more))
        assert stopped.archive.completed() < SEEDS + PROPOSALS
    stopped.work(asked(model, transport))
    assert stopped.archive.content_hash() == recorded.archive.content_hash()
    assert len(server.requests) == 2 * requests  # what was under way was waited for


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


def warm_models(model) -> tuple[Model, ...]:
    return (model(concurrency=4, temperature=1),)


def warm(model, transport, settings: LLM):
    """Proposers that get another reply each time they ask the same."""
    models = warm_models(model)
    given = common() | {"settings": settings, "models": models}
    return lambda archive: LLMProposer(archive, answers=transport(*models), **given)


def test_fewer_tries_make_another_run(recorded, model, tmp_path):
    other = {"settings": LLM.model_validate(common()["settings"].model_dump() | {"tries": 0})}
    again = Run(tmp_path / "again", SEEDS + PROPOSALS)
    with pytest.raises(KvolveError, match="the runs differ"):
        again.work(replayed(recorded, model, **other))


@pytest.mark.parametrize(
    "several", [{"k": 3, "m": 2}, {"k": 3, "keep": "first"}, {"k": 4, "m": 2, "keep": "first"}]
)
def test_run_of_several_replies_to_a_prompt_is_killed_and_repeated(
    server, model, transport, tmp_path, several
):
    server.usual = inventive(odd_every=4, reasoning=30)
    settings = LLM.model_validate(ASKING.model_dump() | several)
    killed, again = Run(tmp_path / "killed", SEEDS + 20), Run(tmp_path / "again", SEEDS + 20)
    killed.work(warm(model, transport, settings), lambda: server.wait_for(25))
    killed.work(warm(model, transport, settings))
    again.work(replayed(killed, model, settings=settings, models=warm_models(model)))
    assert again.archive.content_hash() == killed.archive.content_hash()
    assert again.archive.cost().calls == killed.archive.cost().calls


def test_run_of_several_replies_can_go_on_as_if_it_had_been_longer_at_once(recorded, model, tmp_path):
    """The last group of proposals is cut by the limit: what is left of it waits for a larger one."""
    whole, short = Run(tmp_path / "whole", SEEDS + 30), Run(tmp_path / "short", SEEDS + 30)
    whole.work(replayed(recorded, model))
    for evaluations in range(SEEDS + 1, SEEDS + 31):
        short.limit(evaluations)
        short.work(replayed(recorded, model))
        assert short.archive.completed() == evaluations
    assert short.archive.content_hash() == whole.archive.content_hash()
