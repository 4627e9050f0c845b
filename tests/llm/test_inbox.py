"""Prompts as files, replies as files: what becomes of each reply, of what is open, and of kills between."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from database.archive import Archive
from database.records import CallRecord, ProposalRecord
from evolve.inbox import (
    ANSWERED,
    SKIP,
    SKIPPED,
    Inbox,
    InboxProposer,
    Letter,
    SkippingProposer,
    had_inbox,
    letters,
)
from evolve.inbox_command import inbox as command
from evolve.llm.prompt import Prompts
from evolve.llm.replay import Recorded
from evolve.llm.settings import LLM
from evolve.proposer import Draft, Request
from evolve.proposers import completed
from evolve.settings import make_settings
from evolve.streams import stream
from kvolve import KvolveError
from tests.llm.conftest import BETTER, INTERFACE, OTHER, PARENT, new_archive

FENCED = f"I return 2.\n```python\n{BETTER}```"
ASKING = LLM.model_validate({"operators": {"rewrite": 1}, "tries": 10})

Work = Callable[[], Awaitable[None]]


class Desk:
    """A proposer with an inbox in a folder, and somebody who answers."""

    def __init__(self, archive: Archive, folder: Path) -> None:
        self.archive = archive
        self.folder = folder
        self.said: list[str] = []

    def proposer(self, interface: str = INTERFACE) -> InboxProposer:
        return InboxProposer(
            self.archive,
            inbox=Inbox(self.folder, self.said.append, sleep=lambda _: asyncio.sleep(0)),
            prompts=Prompts(interface),
            settings=ASKING,
            objections=lambda source: "print is not allowed" if "print" in source else "",
        )

    def letter(self, number: int = 3, position: int = 0) -> Letter:
        return Letter(number, position, self.folder)

    def open(self) -> list[tuple[int, int]]:
        return [(letter.number, letter.position) for letter in letters(self.folder) if letter.is_open()]

    def put_away(self) -> set[str]:
        return {path.name for path in (self.folder / ANSWERED).iterdir()}

    async def asked(self, number: int = 3, position: int = 0) -> None:
        """Waits until there is a prompt."""
        async with asyncio.timeout(20):
            while (number, position) not in self.open():
                await asyncio.sleep(0)

    def proposal(self, work: Work, number: int = 3, interface: str = INTERFACE) -> Draft:
        """The draft of a proposal while somebody does `work`."""

        async def both() -> Draft:
            draft, _ = await asyncio.gather(begin(self.proposer(interface), number), work())
            return draft

        return asyncio.run(both())

    def killed(self, work: Work) -> None:
        """A proposal that is under way while somebody does `work`, and is then cancelled."""

        async def both() -> None:
            task = asyncio.create_task(begin(self.proposer()))
            await work()
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(both())

    def answers(self, *replies: str) -> Work:
        """Somebody who waits for each prompt, then answers it."""

        async def work() -> None:
            for position, reply in enumerate(replies):
                await self.asked(position=position)
                self.letter(position=position).reply.write_text(reply, encoding="utf-8")

        return work


async def begin(proposer: SkippingProposer, number: int = 3) -> Draft:
    return await proposer.propose(Request(number, (PARENT, OTHER)), stream(0, number, "proposal"))


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
    reserved = desk.proposer().reservation()
    assert (reserved.tokens, reserved.usd) == (0, 0)


@pytest.mark.parametrize(("llm", "tries"), [({}, 10), ({"llm": {"tries": 1}}, 1)])
def test_inbox_sends_replies_back_as_often_as_it_may_unless_told_how_often(llm, tries):
    given_settings = {"problem": "token_selection", "proposer": "inbox"} | llm
    assert make_settings(completed(given_settings)).llm.tries == tries


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


@pytest.fixture
def waiting(desk) -> Desk:
    """Two prompts that are open in a run that does not go on."""

    async def work() -> None:
        proposer = desk.proposer()
        drafts = [asyncio.create_task(begin(proposer, number)) for number in (3, 4)]
        await desk.asked(3)
        await desk.asked(4)
        for draft in drafts:
            draft.cancel()
        await asyncio.wait(drafts)

    asyncio.run(work())
    (desk.folder.parent / "archive.db").touch()
    return desk


def test_list_has_number_parent_and_age(waiting, capsys):
    run = str(waiting.folder.parent)
    command(run)
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["3", PARENT.hash[:8]], ["4", PARENT.hash[:8]]]
    os.utime(waiting.letter(4).prompt, (0, 0))
    command(run, as_json=True)
    first, second = json.loads(capsys.readouterr().out)
    assert (first["number"], first["position"], first["parent"]) == (3, 0, PARENT.hash)
    assert first["prompt"] == str(waiting.letter(3).prompt)
    assert first["reply"] == str(waiting.letter(3).reply)
    assert 0 <= first["age_s"] < 600 < second["age_s"]


def test_show_prints_the_prompt_and_nothing_else(waiting, capsys):
    command(str(waiting.folder.parent), "show", "3")
    assert capsys.readouterr().out == Prompts(INTERFACE).render("rewrite", Request(3, (PARENT, OTHER)))


def test_answered_and_skipped_prompts_are_no_longer_listed(waiting, tmp_path, capsys):
    run, reply = str(waiting.folder.parent), tmp_path / "mine.md"
    reply.write_text(FENCED)
    command(run, "answer", "3", str(reply))
    assert waiting.open() == [(4, 0)]
    command(run, "skip", "4")
    command(run)
    assert capsys.readouterr().out == f"Nothing is asked for in {run}.\n"
    assert waiting.letter(3).reply.read_text() == FENCED
    assert sorted(path.name for path in waiting.folder.iterdir()) == [
        "0003-0.md",
        "0003-0.reply.md",
        "0004-0.md",
        "0004-0.skip",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("burn",), "Known: list, show, answer, skip"),
        (("show",), "its form is show N"),
        (("skip", "3", "x"), "its form is skip N"),
        (("answer", "3"), "its form is answer N FILE"),
        (("list", "3"), "its form is list"),
        (("show", "5"), "It waits for 3, 4"),
        (("show", "three"), "no reply with the number 'three'"),
        (("answer", "3", "nowhere.md"), "cannot be read"),
        (("answer", "3", os.devnull), "The reply is empty"),
        (("show", "3", None, True), "--json is for the list only"),
    ],
)
def test_bad_input_is_said_in_a_plain_sentence(waiting, arguments, said):
    with pytest.raises(KvolveError, match=said) as raised:
        command(str(waiting.folder.parent), *arguments)
    assert raised.value.exit_code == 2
    assert waiting.open() == [(3, 0), (4, 0)]
