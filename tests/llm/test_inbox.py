"""The inbox: prompts and replies are files."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from database.records import CallRecord, ProposalRecord
from evolve.inbox import (
    ANSWERED,
    SKIP,
    SKIPPED,
    Letter,
    SkippingProposer,
    had_inbox,
    letters,
)
from evolve.llm.prompt import Prompts
from evolve.llm.replay import Recorded
from evolve.proposer import Draft, Request
from evolve.proposers import with_proposer_defaults
from evolve.settings import make_settings
from kvolve import KvolveError
from tests.llm.conftest import BETTER, INTERFACE, OTHER, PARENT, new_archive
from tests.llm.desk import ASKING, FENCED, Desk, begin


@pytest.fixture
def desk(archive, tmp_path) -> Desk:
    (tmp_path / "run").mkdir()
    return Desk(archive, tmp_path / "run" / "inbox")


def test_reply_file_becomes_a_draft(desk):
    draft = desk.proposal(desk.answers(FENCED))
    assert (draft.operator, draft.source, draft.detail) == ("rewrite", BETTER, "")
    assert (draft.tokens, draft.cost_usd) == (0, 0)


def test_call_is_in_the_ledger_and_costs_nothing(desk, archive):
    desk.proposal(desk.answers(FENCED))
    (call,) = archive.calls(3)
    assert (call.model, call.reply, call.tokens_in, call.tokens_out, call.cost_usd) == (
        "inbox",
        FENCED,
        0,
        0,
        0,
    )
    assert call.prompt == Prompts(INTERFACE).render("rewrite", Request(3, (PARENT, OTHER)))
    assert call.latency_s >= 0
    assert call.at > 1.7e9


def test_prompt_file_has_the_prompt_and_the_parent(desk):
    shown = []

    async def look() -> None:
        await desk.asked()
        shown.append(desk.letter().read())
        await desk.answers(FENCED)()

    desk.proposal(look)
    assert shown == [(PARENT.hash, Prompts(INTERFACE).render("rewrite", Request(3, (PARENT, OTHER))))]


def test_answered_files_are_put_away(desk):
    desk.proposal(desk.answers("No.", FENCED))
    assert letters(desk.folder) == []
    assert desk.put_away() == {"0003-0.md", "0003-0.reply.md", "0003-1.md", "0003-1.reply.md"}


def test_malformed_reply_is_answered_with_what_is_wrong_and_the_conversation(desk, archive):
    assert desk.proposal(desk.answers("No.", FENCED)).source == BETTER
    text = (desk.folder / ANSWERED / "0003-1.md").read_text()
    complaint, conversation = text.split("===== the conversation so far =====")
    assert "no program in it" in complaint
    assert PARENT.source in conversation
    assert "===== assistant =====\n\nNo." in conversation
    assert [call.reply for call in archive.calls(3)] == ["No.", FENCED]
    assert "0003-1.md says why" in desk.said[-1]


def test_what_is_wrong_is_told_again_and_again(desk):
    assert desk.proposal(desk.answers(*["No."] * 10, FENCED)).source == BETTER


def test_program_that_never_learns_ends_as_a_failed_proposal(desk):
    draft = desk.proposal(desk.answers(*["No."] * 11))
    assert (draft.source, "no program in it" in draft.detail) == ("No.", True)


def test_any_number_is_open_at_once_and_answered_in_any_order(desk):
    async def work() -> list[Draft]:
        proposer = desk.proposer()
        drafts = [asyncio.create_task(begin(proposer, number)) for number in range(20)]
        for number in range(20):
            await desk.asked(number)
        assert desk.open() == [(number, 0) for number in range(20)]
        for number in reversed(range(20)):
            desk.letter(number).reply.write_text(FENCED.replace("2", str(number + 100)))
        return await asyncio.gather(*drafts)

    drafts = asyncio.run(work())
    assert [f"return {number + 100}\n" in draft.source for number, draft in enumerate(drafts)] == [True] * 20
    assert len([line for line in desk.said if "waited for" in line]) == 1


def test_reply_that_still_grows_is_not_taken(desk):
    async def grows() -> None:
        await desk.asked()
        with desk.letter().reply.open("w") as file:
            for character in FENCED:
                file.write(character)
                file.flush()
                await asyncio.sleep(0)

    assert desk.proposal(grows).source == BETTER
    assert len(desk.archive.calls(3)) == 1


def test_empty_reply_file_is_no_reply(desk):
    async def touched() -> None:
        await desk.asked()
        desk.letter().reply.touch()
        for _ in range(20):
            await asyncio.sleep(0)
        assert desk.open() == [(3, 0)]
        await desk.answers(FENCED)()

    assert desk.proposal(touched).source == BETTER


def test_reply_in_any_bytes_is_taken(desk, archive):
    async def work() -> None:
        await desk.asked()
        desk.letter().reply.write_bytes(b"\xef\xbb\xbf\xff\0" + FENCED.encode())

    assert desk.proposal(work).source == BETTER
    assert archive.calls(3)[0].reply == "\ufffd\ufffd" + FENCED


def test_folder_in_place_of_a_reply_is_said_and_waited_out(desk):
    async def work() -> None:
        await desk.asked()
        desk.letter().reply.mkdir()
        async with asyncio.timeout(20):
            while "cannot be read" not in desk.said[-1]:
                await asyncio.sleep(0)
        desk.letter().reply.rmdir()
        await desk.answers(FENCED)()

    assert desk.proposal(work).source == BETTER


def test_skipped_proposal_is_empty_and_says_so(desk, archive):
    async def skip() -> None:
        await desk.asked()
        desk.letter().skip.touch()

    assert desk.proposal(skip) == Draft(SKIP, (), "", detail="skipped")
    assert [(call.model, call.reply) for call in archive.calls(3)] == [("inbox", SKIPPED)]
    assert desk.put_away() == {"0003-0.md", "0003-0.skip"}


def test_proposal_can_be_skipped_after_a_malformed_reply(desk, archive):
    async def work() -> None:
        await desk.answers("No.")()
        await desk.asked(position=1)
        desk.letter(position=1).skip.touch()

    assert desk.proposal(work).detail == "skipped"
    assert [call.reply for call in archive.calls(3)] == ["No.", SKIPPED]


def test_resumed_run_takes_stored_replies_and_skips_without_asking(desk):
    async def nobody() -> None:
        """Nobody answers."""

    async def skip() -> None:
        await desk.asked(4)
        desk.letter(4).skip.touch()

    first, second = desk.proposal(desk.answers("No.", FENCED)), desk.proposal(skip, number=4)
    assert desk.proposal(nobody) == first
    assert desk.proposal(nobody, number=4) == second
    assert letters(desk.folder) == []


def test_open_prompt_is_found_again_and_not_written_anew(desk):
    desk.killed(desk.asked)
    before = desk.letter().prompt.stat()
    desk.killed(desk.asked)
    after = desk.letter().prompt.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_notes_in_a_prompt_file_are_kept(desk):
    desk.killed(desk.asked)
    with desk.letter().prompt.open("a") as file:
        file.write("I am on it.\n")
    desk.killed(desk.asked)
    assert desk.letter().prompt.read_text().endswith("I am on it.\n")


def test_reply_that_came_while_nothing_ran_is_taken(desk, archive):
    desk.killed(desk.answers("No."))
    desk.killed(lambda: desk.asked(position=1))
    desk.letter(position=1).reply.write_text(FENCED)

    async def nobody() -> None:
        """Nobody answers any more."""

    assert desk.proposal(nobody).source == BETTER
    assert [call.reply for call in archive.calls(3)] == ["No.", FENCED]


def test_reply_to_another_prompt_is_set_aside(desk, archive):
    desk.killed(desk.asked)
    desk.letter().reply.write_text("old")
    assert desk.proposal(desk.answers(FENCED), interface=INTERFACE + "More.").source == BETTER
    assert [call.reply for call in archive.calls(3)] == [FENCED]
    assert {"outdated-0003-0.md", "outdated-0003-0.reply.md"} < desk.put_away()


def test_inbox_that_cannot_be_written_ends_the_run_with_a_plain_sentence(desk):
    desk.folder.write_text("not a folder")
    with pytest.raises(KvolveError, match="cannot be used") as raised:
        asyncio.run(begin(desk.proposer()))
    assert raised.value.exit_code == 1


def test_transcript_of_an_inbox_is_repeated_skips_and_all(desk, tmp_path):
    async def skip() -> None:
        await desk.asked(4)
        desk.letter(4).skip.touch()

    made = [desk.proposal(desk.answers("No.", "No.", "No.", FENCED)), desk.proposal(skip, number=4)]
    again = new_archive(tmp_path / "again.db")
    proposer = SkippingProposer(
        again,
        answers=Recorded(desk.archive),
        prompts=Prompts(INTERFACE),
        settings=ASKING,
        objections=lambda source: "",
    )
    assert [asyncio.run(begin(proposer, number)) for number in (3, 4)] == made
    assert [again.calls(number) for number in (3, 4)] == [desk.archive.calls(number) for number in (3, 4)]
    again.close()


@pytest.mark.parametrize("model", ["inbox", "gpt"])
def test_transcript_says_itself_that_it_is_of_an_inbox(archive, model):
    for number in range(3):
        archive.add_proposal(ProposalRecord(number, 0, "seed", (), f"x = {number}"))
    archive.add_call(CallRecord(2, 0, model, "Improve this.", FENCED))
    assert had_inbox(archive) == (model == "inbox")


def test_inbox_takes_nothing_of_a_limit(desk):
    reserved = desk.proposer().reservation(Request(3, (PARENT,)))
    assert (reserved.tokens, reserved.usd) == (0, 0)


@pytest.mark.parametrize(("llm", "tries"), [({}, 10), ({"llm": {"tries": 1}}, 1)])
def test_inbox_sends_replies_back_as_often_as_it_may_unless_told_how_often(llm, tries):
    given_settings = {"problem": "token_selection", "proposer": "inbox"} | llm
    assert make_settings(with_proposer_defaults(given_settings)).llm.tries == tries


@given(some.integers(0, 10**7), some.integers(0, 100))
def test_every_prompt_file_is_found_by_its_name(number, position):
    letter = Letter(number, position, Path("inbox"))
    assert not {letter.reply.name, letter.skip.name} & {letter.prompt.name}
    assert [name for name in (letter.prompt, letter.reply) if found(name.name)] == [letter.prompt]
    assert found(letter.prompt.name) == (number, position)


def found(name: str) -> tuple[int, int] | None:
    from evolve.inbox import PROMPT_NAME

    match = PROMPT_NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None
