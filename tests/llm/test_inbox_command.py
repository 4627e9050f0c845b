"""The command that lists, shows, answers and skips the prompts of an inbox."""

import asyncio
import json
import os

import pytest

from evolve.inbox_command import inbox as command
from evolve.llm.prompt import Prompts
from evolve.proposer import Request
from kvolve import KvolveError
from tests.llm.conftest import INTERFACE, OTHER, PARENT
from tests.llm.desk import FENCED, Desk, begin


@pytest.fixture
def desk(archive, tmp_path) -> Desk:
    (tmp_path / "run").mkdir()
    return Desk(archive, tmp_path / "run" / "inbox")


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
