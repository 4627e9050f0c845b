"""A run of the real command whose proposals come from files."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evolve.inbox import Letter, letters
from tests.integration.conftest import SMALL, Command
from tests.llm.policies import POLICY

ARGUMENTS = ("run", "token_selection", *SMALL, "--proposer", "inbox", "--run-dir", "run")
PATIENCE_S = 120.0


@contextmanager
def somebody(kvolve: Command, answer: Callable[[Letter], object], run: str = "run") -> Iterator[list[Letter]]:
    """Somebody who answers each prompt of a run as soon as it is there; yields what they have seen."""
    seen: list[Letter] = []
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            for letter in letters(kvolve.folder / run / "inbox"):
                if letter.is_open():
                    seen.append(letter)
                    answer(letter)
            done.wait(0.1)  # polls another process: there is nothing to wait on

    person = threading.Thread(target=work)
    person.start()
    try:
        yield seen
    finally:
        done.set()
        person.join()


def program(first: int) -> str:
    return f"I keep some more.\n```python{POLICY.format(first=first)}```\n"


def test_a_run_takes_its_proposals_from_files(kvolve):
    def answer(letter: Letter) -> None:
        part = letter.reply.with_suffix(".part")
        part.write_text("I would rather not." if len(seen) == 1 else program(letter.number))
        part.rename(letter.reply)

    with somebody(kvolve, answer) as seen:
        text = kvolve(*ARGUMENTS, "--max-evaluations", 10)
    assert "Replies are waited for in run/inbox" in text
    assert "cannot be used" in text
    found = kvolve.inspect("run")
    assert found["evaluations"] == 10
    assert (found["cost"]["tokens_in"], found["cost"]["usd"]) == (0, 0)
    assert [letter.position for letter in seen].count(1) == 1
    asked_for = [found["operators"].get(name, {"proposals": 0}) for name in ("rewrite", "diff", "crossover")]
    assert len(seen) == sum(operator["proposals"] for operator in asked_for) + 1
    assert kvolve("inbox", "run") == "Nothing is asked for in run.\n"
    kvolve("run", "token_selection", "--proposer", "replay:run", "--run-dir", "again")
    assert kvolve.inspect("again")["hash"] == found["hash"]


def test_a_killed_run_finds_its_open_prompts_and_the_replies_that_came_meanwhile(kvolve):
    process = kvolve.start(*ARGUMENTS, "--max-evaluations", 10)
    deadline = time.monotonic() + PATIENCE_S
    while not (kvolve.folder / "run" / "inbox").exists() or not json.loads(kvolve("inbox", "run", "--json")):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
    process.kill()
    process.wait()
    (kvolve.folder / "mine.md").write_text(program(1))
    first, *_ = json.loads(kvolve("inbox", "run", "--json"))
    kvolve("inbox", "run", "answer", first["number"], "mine.md")
    with somebody(kvolve, lambda letter: letter.skip.touch()) as seen:
        kvolve("resume", "run")
    found = kvolve.inspect("run")
    assert found["evaluations"] == 10
    assert first["number"] not in [letter.number for letter in seen]
    assert found["operators"]["skip"]["proposals"] == len(seen) > 0


def test_bad_input_to_the_inbox_is_said(kvolve, finished):
    assert "no run at 'nowhere'" in kvolve("inbox", "nowhere", code=2)
    command, run = finished
    assert "Known: list, show, answer, skip" in command("inbox", run, "burn", code=2)
    assert "waits for no reply" in command("inbox", run, "show", 17, code=2)
    assert command("inbox", run, "--json") == "[]\n"


def test_the_inbox_has_help_with_an_example(kvolve):
    assert "Example: kvolve inbox" in kvolve("inbox", "--help")


def test_ctrl_c_does_not_wait_for_replies_and_leaves_the_prompts_open(kvolve):
    process = kvolve.start(*ARGUMENTS, "--max-evaluations", 10)
    deadline = time.monotonic() + PATIENCE_S
    while not (kvolve.folder / "run" / "inbox").exists() or not json.loads(kvolve("inbox", "run", "--json")):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, text
    assert "`kvolve resume run` goes on" in text
    asked = json.loads(kvolve("inbox", "run", "--json"))
    with somebody(kvolve, lambda letter: letter.skip.touch()) as seen:
        kvolve("resume", "run")
    assert [prompt["number"] for prompt in asked] == [letter.number for letter in seen][: len(asked)]
    assert kvolve.inspect("run")["evaluations"] == 10
