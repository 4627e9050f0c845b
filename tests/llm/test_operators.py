"""The operators that are more than one prompt and one program: plan, simplify, explain; several replies."""

import asyncio
from dataclasses import replace

import pytest

from database.archive import Archive
from database.records import Effort, EvaluationRecord, ProposalRecord
from evolve.llm.choosing import Choice
from evolve.proposer import Draft, Parent, Request
from evolve.streams import stream
from tests.llm.conftest import BETTER, OTHER, PARENT, propose
from tests.llm.server import Exchange, holds, says, slowly_says

FENCED = f"```python\n{BETTER}```"
PLANS = "1. Return two.\n2. Count the tokens by hand.\n3. Return two again.\n4. Return two or two.\n"


def program(value: int, words: str = "") -> str:
    return f"{words}\n```python\nclass Policy:\n    def act(self):\n        return {value}\n```"


def drafts(draft: Draft) -> list[Draft]:
    return [draft, *draft.more]


# ---- plan


def test_most_different_plans_become_programs(server, proposer, archive):
    server.script += [says(PLANS), says(program(2)), says(program(3))]
    made = drafts(propose(proposer("plan")))
    assert [draft.operator for draft in made] == ["plan", "plan"]
    assert [draft.source[-2:-1] for draft in made] == ["2", "3"]
    assert "Think of 4 ways" in server.prompt(0)
    assert "Return two.\n" in server.prompt(1)
    assert "Count the tokens by hand." in server.prompt(2)
    assert [len(request["messages"]) for request in server.requests] == [1, 3, 3]
    assert [call.operator for call in archive.calls(3)] == ["plan"] * 3


def test_reply_without_plans_is_sent_back(server, proposer):
    server.script += [says(FENCED), says(PLANS), says(program(2)), says(program(3))]
    made = drafts(propose(proposer("plan")))
    assert [draft.detail for draft in made] == ["", ""]
    assert "0 numbered plans" in server.prompt(1)
    assert "return 2" not in str(server.requests[2])  # nor is it paid for with every program


def test_without_plans_there_are_two_failed_proposals(server, proposer):
    server.usual = says("I would rather not.")
    made = drafts(propose(proposer("plan", tries=1)))
    assert ["numbered plans" in draft.detail for draft in made] == [True, False]
    assert made[1].source == ""
    assert len(server.requests) == 2


def test_plans_share_what_they_took(server, proposer, archive):
    server.script += [says(PLANS), says(program(2)), says(program(3))]
    made = drafts(propose(proposer("plan")))
    assert [draft.effort.tokens for draft in made] == [180, 180]
    assert sum(draft.effort.cost_usd for draft in made) == pytest.approx(archive.cost().usd)
    assert [draft.tokens for draft in made] == [360, 0]


# ---- simplify

LONG = replace(PARENT, source=PARENT.source + "\n\nUNUSED = 1\n" * 100)


def test_shorter_program_is_taken(server, proposer):
    server.usual = says(f"```python\n{PARENT.source}```")
    draft = propose(proposer("simplify"), parents=(LONG, OTHER))
    assert (draft.operator, draft.source, draft.parents) == ("simplify", PARENT.source, (LONG.hash,))
    assert OTHER.source not in server.prompt(0)


def test_program_that_is_no_shorter_is_sent_back(server, proposer):
    server.script.append(says(f"```python\n{LONG.source}\n\nMORE = 2\n```"))
    server.usual = says(f"```python\n{PARENT.source}```")
    propose(proposer("simplify"), parents=(LONG, OTHER))
    assert "characters beside blanks" in server.prompt(1)


def test_short_program_is_not_simplified(server, proposer):
    server.usual = says(FENCED)
    assert propose(proposer("simplify")).operator == "rewrite"


def test_the_shorter_program_of_equal_behaviour_takes_the_place_of_its_parent(proposer, archive):
    asked = proposer()
    (long,) = elites(archive, 1)
    made = ProposalRecord(1, 0, "simplify", (long.hash,), "class Policy: 0\n", effort=Effort("stub"))
    short = archive.add_proposal(made)
    record = EvaluationRecord("search", "s", 1.0, descriptors={"share": 0.5}, duplicate_of=long.hash)
    archive.add_evaluation(1, record)
    resumed = proposer()
    (step,) = archive.latest_steps(1)
    asked.learn(step)
    for each in (asked, resumed):
        (parent,) = prepared(each, 5, [long]).parents
        assert (parent.hash, parent.source, parent.score) == (short, "class Policy: 0\n", 1.0)


# ---- explain


def elites(archive: Archive, count: int = 3) -> list[Parent]:
    """Elites with the scores 1 to `count`, the best last."""
    made = []
    for number in range(count):
        source = f"class Policy:\n    share = {number}\n"
        hash = archive.add_proposal(ProposalRecord(number, 0, "seed", (), source))
        record = EvaluationRecord(
            "search", "s", number + 1.0, feedback=f"Feedback {number}.", descriptors={"share": number / count}
        )
        archive.add_evaluation(number, record)
        made.append(Parent(hash, source, number + 1.0, record.feedback))
    return made


def prepared(proposer, number: int, parents: list[Parent], known: int | None = None) -> Request:
    request = Request(number, tuple(parents))
    return proposer.prepare(request, number if known is None else known, stream(0, number, "choice"))


def proposed(proposer, request: Request) -> Draft:
    async def work() -> Draft:
        try:
            return await proposer.propose(request, stream(0, request.number, "proposal"))
        finally:
            await proposer.close()

    return asyncio.run(work())


def test_elites_are_explained_once_in_so_many_proposals(proposer, archive):
    asked, parents = proposer(asking={"explain_every": 10}), elites(archive)
    chosen = [Choice.read(prepared(asked, number, parents).choice).explains for number in range(3, 33)]
    assert [number for number, explains in enumerate(chosen, 3) if explains] == [9, 19, 29]


def test_explanation_shows_the_best_elites_and_its_lessons_are_used_at_once(server, proposer, archive):
    server.script.append(says("- Two is better than one.\n- Act less."))
    server.usual = says(FENCED)
    request = prepared(asked := proposer(asking={"explain_every": 10}), 9, elites(archive)[:1])
    draft = proposed(asked, request)
    assert draft.operator == "rewrite"
    for number in range(3):
        assert f"share = {number}" in server.prompt(0)
        assert f"Feedback {number}." in server.prompt(0)
    assert "at most four lessons" in server.prompt(0)
    assert "- Two is better than one.\n- Act less.\n" in server.prompt(1)
    assert [call.operator for call in archive.calls(9)] == ["explain", "rewrite"]


def test_an_explanation_is_not_counted_as_what_its_proposal_took(server, proposer, archive):
    server.script.append(says("- Two is better than one."))
    server.usual = says(FENCED)
    draft = proposed(asked := proposer(asking={"explain_every": 10}), prepared(asked, 9, elites(archive)))
    assert (draft.effort.tokens, draft.tokens) == (120, 240)


def test_lessons_reach_the_prompts_of_later_proposals(server, proposer, archive):
    server.usual = says("- Two is better than one.")
    asked, parents = proposer(asking={"explain_every": 10}, tries=0), elites(archive)
    proposed(asked, prepared(asked, 9, parents))
    assert prepared(asked, 15, parents, known=9).lessons == ()  # 9 is still under way there
    assert prepared(asked, 20, parents, known=12).lessons == ("Two is better than one.",)


def test_nothing_is_explained_when_that_is_not_wanted(proposer, archive):
    asked, parents = proposer(asking={"explain_every": 0}), elites(archive)
    assert not any(Choice.read(prepared(asked, number, parents).choice).explains for number in range(90))


def test_resumed_run_knows_what_was_explained(server, proposer, archive):
    server.usual = says("- Two is better than one.")
    parents = elites(archive)
    proposed(asked := proposer(asking={"explain_every": 10}, tries=0), prepared(asked, 9, parents))
    assert Choice.read(prepared(proposer(asking={"explain_every": 10}), 9, parents).choice).explains
    archive.add_proposal(ProposalRecord(9, 0, "rewrite", (), "class Policy:\n    x = 9\n"))
    again = proposer(asking={"explain_every": 10})
    assert not Choice.read(prepared(again, 10, parents).choice).explains
    assert Choice.read(prepared(again, 19, parents).choice).explains


# ---- several replies to one prompt

WAITS = "Wait, no. " * 40


def several(proposer, k: int, m: int, keep: str = "least"):
    return proposer(asking={"k": k, "m": m, "keep": keep}, concurrency=8)


def sources(draft: Draft) -> list[str]:
    return [one.source.strip()[-1] for one in drafts(draft)]


def test_the_replies_with_the_least_overthinking_are_kept(server, proposer):
    server.script += [
        says(program(2), reasoning=WAITS),
        says(program(3), reasoning="Three."),
        says(program(4), reasoning=WAITS),
        says(program(5), reasoning="I think it is five."),
    ]
    assert sources(propose(several(proposer, 4, 2))) == ["3", "5"]


def test_a_reply_that_can_be_used_goes_before_one_that_cannot(server, proposer):
    server.script += [says("No."), says(program(3), reasoning=WAITS)]
    server.usual = says("No.")
    draft = propose(several(proposer, 2, 1))
    assert (draft.source.strip()[-1], draft.more) == ("3", ())


def test_nobody_waits_for_more_than_the_first_replies(server, proposer, archive):
    """The server holds the third one back until the test is over."""
    server.script += [slowly_says(program(2)), says(program(3)), holds]
    assert sources(propose(several(proposer, 3, 2, "first"))) == ["3", "2"]
    assert len(archive.calls(3)) == 2


def test_the_order_of_the_first_replies_is_that_of_the_ledger(server, proposer, archive):
    server.script += [slowly_says(program(2)), says(program(3)), says(program(4))]
    first = sources(propose(several(proposer, 3, 1, "first")))
    asked = len(server.requests)
    assert sources(propose(several(proposer, 3, 1, "first"))) == first
    assert first[0] in archive.calls(3)[0].reply
    assert len(server.requests) - asked <= 2  # those that nobody waited for


def test_all_replies_are_in_the_ledger_and_shared_by_those_that_are_kept(server, proposer, archive):
    server.usual = says(program(2))
    made = drafts(propose(several(proposer, 4, 2)))
    assert {call.sample for call in archive.calls(3)} == {0, 1, 2, 3}
    assert [draft.effort.tokens for draft in made] == [240, 240]


def test_all_replies_are_asked_for_at_once(server, proposer):
    arrived = []

    def together(exchange: Exchange) -> None:
        arrived.append(1)
        if len(arrived) == 4:
            exchange.server.released.set()
        holds(exchange)

    server.script += [together] * 4
    server.usual = says(FENCED)
    propose(several(proposer, 4, 1))
    assert server.most_under_way == 4


def test_proposal_says_how_it_was_thought_about(server, proposer):
    server.usual = says(program(2), reasoning=WAITS)
    effort = propose(proposer()).effort
    assert (effort.model, effort.changed, effort.patterns) == ("stub", 3, ("analysis paralysis",))
    assert effort.tokens_reasoning > 0
