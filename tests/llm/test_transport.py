"""Calls to a server that behaves well and badly: what comes back, what is asked again, what ends a run."""

import asyncio

import pytest

from evolve.llm.reply import LONGEST_REPLY, Reply
from kvolve import KvolveError
from tests.llm.conftest import ASKED, KEY, ask
from tests.llm.server import (
    breaks_off,
    completion,
    drips,
    hangs,
    hangs_up,
    holds,
    refuses,
    says,
    sends,
    slowly_says,
)


def test_reply_has_text_tokens_and_the_end(server, model, transport):
    server.usual = says("x = 2", finish_reason="length")
    (reply,) = ask(transport(model()), model())
    assert (reply.text, reply.tokens_in, reply.tokens_out, reply.model) == ("x = 2", 100, 20, "stub-1")
    assert reply.finish_reason == "length"
    assert reply.latency_s > 0


def test_request_has_what_the_settings_say(server, model, transport):
    wanted = model(temperature=0.5, reasoning_effort="low", max_tokens=77)
    ask(transport(wanted), wanted)
    assert server.paths == ["/v1/chat/completions"]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert server.requests == [
        {
            "model": "stub",
            "messages": [{"role": "user", "content": "Improve this."}],
            "max_tokens": 77,
            "temperature": 0.5,
            "reasoning_effort": "low",
        }
    ]


def test_what_is_not_set_is_not_sent(server, model, transport):
    ask(transport(model()), model())
    assert server.requests[0].keys() == {"model", "messages", "max_tokens"}


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_is_kept_apart(server, model, transport, field):
    usage = {"prompt_tokens": 9, "completion_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 6}}
    server.usual = says("x = 2", usage=usage, **{field: "hm"})
    (reply,) = ask(transport(model()), model())
    assert (reply.text, reply.reasoning, reply.tokens_out, reply.tokens_reasoning) == ("x = 2", "hm", 8, 6)


def test_reasoning_that_nobody_counted_has_its_share_of_the_tokens(server, model, transport):
    server.usual = says("x = 2", reasoning="h" * 15)
    assert ask(transport(model()), model())[0].tokens_reasoning == 15


def test_reasoning_that_is_left_out_of_the_completion_is_counted(server, model, transport):
    server.usual = says("x", usage={"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 45})
    assert ask(transport(model()), model())[0].tokens_out == 35


def test_answer_in_the_reasoning_alone_is_taken_when_the_model_was_done(server, model, transport):
    server.usual = says(None, reasoning_content="x = 2")
    (reply,) = ask(transport(model()), model())
    assert (reply.text, reply.reasoning) == ("x = 2", "")


def test_reasoning_without_end_is_no_answer(server, model, transport):
    server.usual = says(None, reasoning_content="hm, x", finish_reason="length")
    (reply,) = ask(transport(model()), model())
    assert (reply.text, reply.reasoning) == ("", "hm, x")


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        (sends(b'{"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 20}}'), ""),
        (sends(b'{"choices": [{"message": null}]}'), ""),
        (sends(b'{"choices": [{}]}'), ""),
        (says(None), ""),
        (says(""), ""),
        (says(None, refusal="I can't help."), "I can't help."),
        (says([{"type": "thinking", "thinking": []}, {"type": "text", "text": "x = 2"}]), "x = 2"),
        (says({"odd": 1}), ""),
        (says("naïve ☃ 𝒳 \ud83d\ude00"), "naïve ☃ 𝒳 😀"),
        (says("half \ud83d, \0"), "half \ufffd, \ufffd"),
        (slowly_says("x = 2"), "x = 2"),
        (says("y" * 3_000_000), "y" * LONGEST_REPLY),
    ],
    ids=str,
)
def test_odd_reply_is_read(server, model, transport, behaviour, text):
    server.usual = behaviour
    assert ask(transport(model()), model())[0].text == text
    assert len(server.requests) == 1


@pytest.mark.parametrize("usage", [None, {}, "many", {"prompt_tokens": -1, "completion_tokens": "x"}])
def test_tokens_that_are_not_counted_are_estimated_and_said_so(server, model, transport, said, usage):
    server.usual = says("x" * 30, usage=usage)
    question_length = len(ASKED[0].text)
    (reply,) = ask(transport(model()), model())
    assert (reply.tokens_in, reply.tokens_out) == (-(-question_length // 3), 10)
    assert reply.estimated


@pytest.mark.parametrize(
    "fault",
    [
        refuses(429),
        refuses(500),
        refuses(503),
        refuses(408),
        breaks_off,
        hangs_up,
        sends(b"{"),
        sends(b"<!doctype html>"),
        sends(b'{"choices": 3}'),
        sends(b'{"error": {"code": 502, "message": "no provider"}}'),
        sends(b"", 502),
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(server, model, transport, time, fault):
    server.script.extend([fault, fault])
    assert ask(transport(model()), model())[0].text == "x = 1"
    assert len(server.requests) == 3
    assert len(time.waits) == 2


@pytest.mark.parametrize("fault", [hangs, drips], ids=["hangs", "drips"])
def test_reply_that_never_ends_is_given_up_and_asked_for_again(server, model, transport, fault):
    server.script.append(fault)
    impatient = model(timeout_s=0.2)
    assert ask(transport(impatient), impatient)[0].text == "x = 1"


def test_retry_after_is_honoured(server, model, transport, time):
    server.script.append(refuses(429, Retry_After="17"))
    ask(transport(model()), model())
    assert 17 <= time.waits[0] < 19


def test_retry_after_may_be_a_date(server, model, transport, time):
    server.script.append(refuses(429, Retry_After="Fri, 31 Dec 1999 23:59:59 GMT"))
    ask(transport(model()), model())
    assert 0 <= time.waits[0] <= 1


def test_senseless_retry_after_is_ignored(server, model, transport, time):
    server.script.append(refuses(429, Retry_After="soon"))
    ask(transport(model()), model())
    assert 0 <= time.waits[0] <= 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (refuses(401, f"Incorrect API key provided: {KEY}"), "refuses the key.*valid one into A_KEY"),
        (refuses(403, "not in your country"), "refuses the key .HTTP 403: not in your country."),
        (refuses(404, "The model `stub` does not exist"), "does not know the model 'stub'"),
        (refuses(402, "Insufficient Balance"), "wants to be paid first"),
        (refuses(429, "You exceeded your quota", "insufficient_quota"), "wants to be paid first"),
        (refuses(400, "Unsupported value: 'temperature'"), "refuses what it is asked .*temperature"),
    ],
)
def test_what_cannot_pass_is_said_at_once(server, model, transport, fault, message):
    server.script.append(fault)
    with pytest.raises(KvolveError, match=message) as raised:
        ask(transport(model()), model())
    assert KEY not in str(raised.value)
    assert raised.value.__cause__ is None
    assert len(server.requests) == 1


def test_missing_key_is_told_by_what_to_set(server, model, transport):
    server.script.append(refuses(401))
    with pytest.raises(KvolveError, match="'api_key_env'"):
        ask(transport(model(api_key_env=None)), model(api_key_env=None))


def test_one_refused_call_of_a_proven_model_is_an_empty_reply(server, model, transport, said):
    server.script.extend([says("x = 1"), refuses(400, "context length exceeded")])
    asked, known = transport(model()), model()

    async def work() -> Reply:
        await asked.ask(known, ASKED)
        reply = await asked.ask(known, ASKED)
        await asked.close()
        return reply

    reply = asyncio.run(work())
    assert (reply.text, reply.tokens_out) == ("", 0)
    assert "context length exceeded" in reply.finish_reason
    assert "context length exceeded" in said[0]


def test_models_that_want_the_new_name_of_the_limit_get_it(server, model, transport):
    server.script.append(refuses(400, "Use 'max_completion_tokens' instead of 'max_tokens'."))
    ask(transport(model(max_tokens=5)), model(max_tokens=5))
    assert server.requests[1]["max_completion_tokens"] == 5
    assert "max_tokens" not in server.requests[1]


def test_no_more_calls_at_a_time_than_a_model_may_have(server, model, transport):
    limited = model(concurrency=3)
    ask(transport(limited), limited, calls=12)
    assert server.most_under_way <= 3


def test_calls_go_side_by_side(server, model, transport):
    server.usual = holds
    asked, free = transport(model(concurrency=5)), model(concurrency=5)

    async def work() -> None:
        calls = [asyncio.create_task(asked.ask(free, ASKED)) for _ in range(9)]
        await asyncio.to_thread(server.wait_for, 5)
        server.released.set()
        await asyncio.gather(*calls)
        await asked.close()

    asyncio.run(work())
    assert server.most_under_way == 5


def test_key_in_a_reply_is_struck_out(server, model, transport):
    server.usual = says(f"x = '{KEY}'")
    assert ask(transport(model()), model())[0].text == "x = '***'"


def test_transport_shows_no_key(server, model, transport):
    shown = transport(model())
    assert KEY not in repr(shown)
    assert KEY not in repr(completion("x"))
