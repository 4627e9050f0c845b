"""Endpoints that are dead for a while, or for good, and calls that fail by themselves."""

import asyncio

import pytest

from evolve.llm.conversation import Message
from evolve.llm.gate import FAULTS_TO_CLOSE, EndpointLostError
from evolve.llm.reply import Reply
from tests.llm.conftest import ASKED, ask
from tests.llm.server import refuses, says


def test_dead_endpoint_is_tried_by_one_call_at_a_time_and_told_once(server, model, transport, said):
    server.script.extend([refuses(503)] * 20)
    replies = ask(transport(model(concurrency=8)), model(concurrency=8), calls=8)
    assert [reply.text for reply in replies] == ["x = 1"] * 8
    assert [line for line in said if "does not answer" in line] == said[:1]
    assert "HTTP 503: no" in said[0]
    assert said[1:] == [f"{server.url} answers again."]


def test_server_that_is_not_there_is_waited_for(server, model, transport, said):
    nowhere = model(base_url="http://127.0.0.1:9/v1")
    with pytest.raises(EndpointLostError, match=r"127\.0\.0\.1:9/v1 has not answered for .*kvolve resume"):
        ask(transport(nowhere), nowhere, calls=3)
    assert len(said) == 1


def test_run_ends_when_an_endpoint_stays_dead_for_too_long(server, model, transport, time):
    server.usual = refuses(500)
    with pytest.raises(EndpointLostError):
        ask(transport(model(), give_up_s=600), model(), calls=4)
    assert 600 <= time.now < 800


def test_run_ends_when_it_would_have_to_wait_too_long(server, model, transport, time):
    server.usual = refuses(429, Retry_After="86400")
    with pytest.raises(EndpointLostError, match="not to be asked for 86400 s"):
        ask(transport(model()), model())
    assert time.waits == []


def test_waits_grow_up_to_a_minute(server, model, transport, time):
    server.script.extend([refuses(500)] * 12)
    ask(transport(model()), model())
    trials = time.waits[FAULTS_TO_CLOSE - 1 :]
    assert max(trials[-8:]) > 8
    assert max(trials) <= 60


def test_call_that_always_fails_while_others_succeed_is_an_empty_reply(server, model, transport, said):
    asked, one = transport(model()), model(concurrency=1)
    poison = (Message("user", "poison"),)
    server.usual = lambda exchange: (
        refuses(500) if exchange.body["messages"][0]["content"] == "poison" else says("x = 1")
    )(exchange)

    async def work() -> Reply:
        failing = asyncio.create_task(asked.ask(one, poison))
        while not failing.done():
            await asked.ask(one, ASKED)
        await asked.close()
        return failing.result()

    reply = asyncio.run(work())
    assert (reply.text, reply.tokens_in) == ("", 0)
    assert "HTTP 500" in reply.finish_reason
    assert any("HTTP 500" in line for line in said)
