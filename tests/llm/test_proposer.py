"""Proposals of an LLM, from a real server: what becomes of each reply, and what the ledger has of it."""

import asyncio

import pytest

from database.archive import Archive
from database.connection import archive_url
from database.records import CallRecord, Cost
from evolve.llm.gate import EndpointLostError
from evolve.llm.prompt import Prompts
from evolve.llm.proposer import LLMProposer
from evolve.llm.settings import LLM
from evolve.proposer import Request, Reservation
from evolve.streams import stream
from sandbox.screen import screen
from tests.llm.conftest import BETTER, INTERFACE, KEY, OTHER, PARENT, propose
from tests.llm.server import Exchange, breaks_off, completion, hangs, refuses, says, sends, slowly_says

FENCED = f"I return 2.\n```python\n{BETTER}```"
DIFF = "<<<<<<< SEARCH\n        return 1\n=======\n        return 2\n>>>>>>> REPLACE"


def test_reply_becomes_a_draft(server, proposer):
    server.usual = says(FENCED)
    draft = propose(proposer())
    assert (draft.operator, draft.source, draft.detail) == ("rewrite", BETTER, "")
    assert draft.parents == (PARENT.hash, OTHER.hash)


def test_draft_says_what_its_calls_took(server, proposer, archive):
    server.usual = says(FENCED)
    draft = propose(proposer())
    assert (draft.tokens, draft.cost_usd) == (120, pytest.approx(100e-6 + 20 * 10e-6))
    assert archive.cost() == Cost(100, 20, draft.cost_usd, 0, 1)


def test_call_is_stored_with_all_that_was_said(server, proposer, archive):
    server.usual = says(FENCED, reasoning="2 > 1")
    propose(proposer())
    (call,) = archive.calls(3)
    assert (call.number, call.position, call.model) == (3, 0, "stub")
    assert call.prompt == server.prompt(0)
    assert call.reply == f"<think>\n2 > 1\n</think>\n\n{FENCED}"
    assert (call.tokens_in, call.tokens_out, call.cost_usd) == (100, 20, 0.0003)
    assert 0 < call.tokens_reasoning < 20
    assert call.latency_s > 0
    assert call.at > 1.7e9


def test_call_is_stored_before_anything_is_done_with_it(server, archive, proposer):
    def stumble(source: str) -> str:
        raise RuntimeError("power cut")

    stumbling = proposer()
    stumbling.objections = stumble
    server.usual = says(FENCED)
    with pytest.raises(RuntimeError, match="power cut"):
        propose(stumbling)
    assert [call.reply for call in archive.calls(3)] == [FENCED]


def test_diff_is_applied_to_the_parent(server, proposer):
    server.usual = says(DIFF)
    draft = propose(proposer("diff"))
    assert (draft.operator, draft.source) == ("diff", PARENT.source.replace("return 1", "return 2"))


def test_crossover_names_both_parents(server, proposer):
    server.usual = says(FENCED)
    draft = propose(proposer("crossover"))
    assert (draft.operator, draft.parents) == ("crossover", (PARENT.hash, OTHER.hash))


def test_crossover_needs_two_parents(server, proposer):
    server.usual = says(FENCED)
    assert propose(proposer("crossover"), parents=(PARENT, PARENT)).operator == "rewrite"


@pytest.mark.parametrize(
    ("behaviour", "calls"),
    [
        (says(FENCED), 1),
        (says(BETTER), 1),
        (says(f"```python\nx = 1\n```\n{FENCED}\n```sh\nls\n```"), 1),
        (says(FENCED.replace("I return 2.", "≥ 2 ☃")), 1),
        (says(f"hm\n</think>\n{FENCED}"), 1),
        (says(None, reasoning_content=FENCED), 1),
        (says([{"type": "text", "text": FENCED}]), 1),
        (slowly_says(FENCED), 1),
        (says(FENCED, usage=None), 1),
        (refuses(429, Retry_After="1"), 1),
        (refuses(500), 1),
        (breaks_off, 1),
        (sends(b'{"choices": [{"mess'), 1),
        (says("I'm sorry, but I can't help with that."), 2),
        (says(None, refusal="I can't."), 2),
        (says(FENCED[: len(FENCED) // 2]), 2),
        (says("```python\ndef policy():\n    return 2\n```"), 2),
        (says(f"```python\n{PARENT.source}```"), 2),
        (says("```python\nclass Policy:\n    def act(self):\n        print(2)\n```"), 2),
        (says(DIFF.replace("return 1", "return one")), 2),
        (says(None), 2),
        (sends(b'{"choices": []}'), 2),
        (says("y" * 1_000_000), 2),
        (says(None, reasoning="hm", finish_reason="length"), 2),
    ],
    ids=lambda value: "" if callable(value) else str(value),
)
def test_every_reply_is_read_or_answered_with_what_is_wrong(server, proposer, archive, behaviour, calls):
    """Replies that came are in the ledger, those that did not come are not."""
    server.script.append(behaviour)
    server.usual = says(FENCED)
    draft = propose(proposer())
    assert (draft.source, draft.detail) == (BETTER, "")
    stored = archive.calls(3)
    assert [call.position for call in stored] == list(range(calls))
    assert stored[-1].reply.endswith(FENCED) or BETTER in stored[-1].reply
    assert draft.tokens == sum(call.tokens_in + call.tokens_out for call in stored)
    assert draft.cost_usd == pytest.approx(archive.cost().usd)


def test_hanging_reply_is_not_in_the_ledger(server, proposer, archive):
    server.script.append(hangs)
    server.usual = says(FENCED)
    assert propose(proposer(timeout_s=0.2)).source == BETTER
    assert len(archive.calls(3)) == 1


def test_conversation_goes_on_with_what_is_wrong(server, proposer, archive):
    server.script.append(says("No.", reasoning="secret thoughts"))
    server.usual = says(FENCED)
    propose(proposer())
    first, second = server.requests
    roles = [message["role"] for message in second["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert second["messages"][:2] == [*first["messages"], {"role": "assistant", "content": "No."}]
    assert "no program in it" in server.prompt(1)
    assert "secret thoughts" not in str(second)
    assert archive.calls(3)[1].prompt.startswith(archive.calls(3)[0].prompt + "\n\n===== assistant =====")


@pytest.mark.parametrize(
    "copy",
    [
        OTHER.source.replace("return 7", "return 7  # a comment"),
        PARENT.source.replace("class Policy:", 'class Policy:\n    """With words."""\n'),
    ],
)
def test_program_that_differs_in_name_only_is_sent_back(server, proposer, copy):
    server.script.append(says(f"```python\n{copy}```"))
    server.usual = says(FENCED)
    assert propose(proposer()).source == BETTER
    assert "the same as one that was shown, but for names, comments" in server.prompt(1)


def test_example_of_the_interface_is_no_proposal(server, proposer):
    example = "class Policy:\n    def act(self):\n        return 9\n"
    server.script.append(says(f"```python\n{example}```"))
    server.usual = says(FENCED)
    asked = proposer(interface=f"{INTERFACE}\n```python\n{example}```\n")
    assert propose(asked).source == BETTER
    assert "the same as one that was shown" in server.prompt(1)


def test_stopped_proposal_waits_for_its_reply_and_asks_nothing_more(server, proposer, archive):
    """What it needs beyond that is asked for by a resumed run, which finds the reply."""
    asked = proposer()

    def stops(exchange: Exchange) -> None:
        asked.stop()
        says("No.")(exchange)

    server.script.append(stops)
    with pytest.raises(asyncio.CancelledError):
        propose(asked)
    assert [call.reply for call in archive.calls(3)] == ["No."]
    server.usual = says(FENCED)
    assert propose(proposer()).source == BETTER
    assert len(server.requests) == 2


def test_stopped_proposal_does_not_wait_for_a_dead_server(server, proposer, archive, time):
    asked = proposer()

    def stops(exchange: Exchange) -> None:
        asked.stop()
        refuses(500)(exchange)

    server.script += [refuses(500), refuses(500), refuses(500), stops]
    with pytest.raises(asyncio.CancelledError):
        propose(asked)
    assert len(server.requests) == 4
    assert archive.calls(3) == []


def test_screen_may_object_before_anything_is_evaluated(server, proposer):
    server.script.append(says("```python\nclass Policy:\n    def act(self):\n        print(2)\n```"))
    server.usual = says(FENCED)
    propose(proposer())
    assert "line 1: print is not allowed" in server.prompt(1)


@pytest.mark.parametrize(
    ("text", "detail", "source"),
    [
        ("I can't help with that.", "no program in it", "I can't help with that."),
        ("```python\ndef policy() return 2\n```", "cannot parse", "def policy() return 2\n"),
        (DIFF.replace("return 1", "return x"), "does not occur", DIFF.replace("return 1", "return x")),
        (f"```python\n{PARENT.source}```", "is the same", PARENT.source),
        ("```python\nclass Policy:\n    print(2)\n```", "print", "class Policy:\n    print(2)\n"),
        ("", "empty", ""),
    ],
)
def test_failed_proposal_is_the_reply_with_what_is_wrong(server, proposer, text, detail, source):
    server.usual = says(text)
    draft = propose(proposer(tries=2))
    assert detail in draft.detail
    assert draft.source == source
    assert len(server.requests) == 3


@pytest.mark.parametrize("text", ["I can't help with that.", "Sorry", DIFF.replace("return 1", "return x")])
def test_failed_reply_does_not_pass_the_screen(server, proposer, text):
    from evaluators.token_selection.language import LANGUAGE

    server.usual = says(text)
    assert screen(propose(proposer(tries=0)).source, LANGUAGE)


def test_without_tries_the_first_reply_counts(server, proposer):
    server.usual = says("No.")
    propose(proposer(tries=0))
    assert len(server.requests) == 1


def test_stored_reply_is_not_asked_for_again(server, proposer, archive):
    server.usual = says(FENCED)
    first = propose(proposer())
    again = propose(proposer())
    assert len(server.requests) == 1
    assert (again.source, again.tokens, again.cost_usd) == (first.source, 0, 0)


def test_conversation_that_was_cut_by_a_kill_is_taken_up(server, proposer, archive, tmp_path):
    server.script.append(says("No."))
    server.usual = hangs

    async def killed() -> None:
        asked = proposer()
        task = asyncio.create_task(asked.propose(Request(3, (PARENT, OTHER)), stream(0, 3, "proposal")))
        await asyncio.to_thread(server.wait_for, 2)
        task.cancel()
        await asyncio.wait([task])
        await asked.close()

    asyncio.run(killed())
    server.usual = says(FENCED)
    draft = propose(proposer())
    assert draft.source == BETTER
    assert draft.tokens == 120
    assert len(server.requests) == 3
    assert [call.position for call in archive.calls(3)] == [0, 1]


def test_reply_to_another_prompt_is_no_answer(server, proposer, archive):
    archive.add_call(CallRecord(3, 0, "stub", "an older prompt", "an older reply"))
    server.usual = says(FENCED)
    assert propose(proposer()).source == BETTER
    assert [call.position for call in archive.calls(3)] == [0, 1]
    assert propose(proposer()).source == BETTER
    assert len(server.requests) == 1


def test_lost_endpoint_ends_the_proposal_and_leaves_no_call(proposer, archive):
    with pytest.raises(EndpointLostError):
        propose(proposer(base_url="http://127.0.0.1:9/v1"))
    assert archive.calls(3) == []


def test_key_is_in_no_file_of_a_run(server, proposer, archive, tmp_path, said):
    server.script.append(refuses(500, f"key {KEY}"))
    server.script.append(says(f"Your key is {KEY}."))
    server.usual = says(FENCED)
    propose(proposer())
    archive.close()
    assert KEY not in "".join(said)
    again = Archive.open(archive_url(tmp_path / "archive.db"))
    assert KEY not in str(again.calls(3))
    for path in tmp_path.iterdir():
        assert KEY.encode() not in path.read_bytes()


def test_same_request_and_random_numbers_ask_the_same(server, archive, model, transport):
    models = (model(model="one", name="one"), model(model="two", name="two", weight=2))
    settings = LLM.model_validate(
        {"operators": {"rewrite": 1, "diff": 1, "crossover": 1}, "choice": "weights"}
    )
    server.usual = says(FENCED)

    def asked(number: int) -> tuple[str, str]:
        made = LLMProposer(
            archive,
            answers=transport(*models),
            prompts=Prompts(INTERFACE),
            models=models,
            settings=settings,
            objections=lambda source: "",
        )
        return propose(made, number).operator, server.requests[-1]["model"]

    chosen = [asked(number) for number in range(40)]
    assert {operator for operator, _ in chosen} == {"rewrite", "diff", "crossover"}
    assert 10 < [model for _, model in chosen].count("two") < 38
    before = len(server.requests)
    assert [operator for operator, _ in map(asked, range(40))] == [operator for operator, _ in chosen]
    assert len(server.requests) == before


@pytest.mark.parametrize("operator", ["rewrite", "diff", "crossover", "plan"])
@pytest.mark.parametrize("several", [{}, {"k": 3}])
def test_reservation_covers_a_proposal_that_takes_all_it_may(server, proposer, operator, several):
    """Replies of 500 tokens, which is the most, and of no use; prompts of three characters a token."""

    def wordy(exchange: Exchange) -> None:
        asked = sum(len(message["content"]) for message in exchange.body["messages"])
        plans = "1. One.\n2. Two.\n" if len(exchange.body["messages"]) == 1 else ""
        usage = {"prompt_tokens": asked // 3, "completion_tokens": 500}
        says(plans + "y" * (1500 - len(plans)), usage=usage)(exchange)

    server.usual = wordy
    asked = proposer(operator, asking=several, max_tokens=500)
    request = asked.choosing.choose(Request(3, (PARENT, OTHER)), stream(0, 3, "proposal"))
    reserved = asked.reservation(request)
    draft = propose(asked)
    assert draft.operator == operator
    assert draft.tokens <= reserved.tokens <= 3 * draft.tokens
    assert draft.cost_usd <= reserved.usd


def test_reservation_without_a_price_is_of_tokens_only(proposer):
    reserved = proposer(price_in=None, price_out=None).reservation(Request(3, (PARENT,)))
    assert reserved.usd == 0
    assert isinstance(reserved, Reservation)
    assert reserved.tokens > 0


def test_unknown_price_and_missing_count_are_said_once(server, proposer, said):
    server.usual = sends(completion("No.", usage=None))
    propose(proposer(price_in=None))
    assert len([line for line in said if "price" in line]) == 1
    assert len([line for line in said if "does not count" in line]) == 1
