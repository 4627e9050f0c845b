"""`kvolve inbox`: lists, shows, answers and skips what a run with `--proposer inbox` asks for."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvolve import KvolveError

if TYPE_CHECKING:
    from evolve.inbox import Letter

ACTIONS = ("list", "show", "answer", "skip")


def inbox(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or its name in runs/.")],
    action: Annotated[
        str, typer.Argument(metavar="[list|show|answer|skip]", help="What to do; by default list.")
    ] = "list",
    number: Annotated[str | None, typer.Argument(metavar="[N]", help="The number of a proposal.")] = None,
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="The reply, for answer; - reads standard input.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="List as JSON for a program to read.")] = False,
) -> None:
    """Lists what a run with --proposer inbox asks for, shows a prompt, and takes replies.

    It works on files in RUN/inbox only, while the run goes on and when it does not.

    Example: kvolve inbox runs/token_selection-001 answer 17 reply.md
    """
    from evolve.inbox import INBOX, letters
    from evolve.workspace import find_directory

    _check(action, number, file, as_json)
    asked = [letter for letter in letters(find_directory(run) / INBOX) if letter.is_open()]
    if action == "list":
        _list(asked, as_json, run)
        return
    letter = _chosen(asked, str(number), run)
    if action == "show":
        print(letter.read()[1], end="")
    elif action == "answer":
        _put(letter.reply, _reply(str(file)))
    else:
        _put(letter.skip, b"")


def _check(action: str, number: str | None, file: str | None, as_json: bool) -> None:
    """Raises KvolveError for arguments that do not go together."""
    if action not in ACTIONS:
        raise KvolveError(f"There is no {action!r} for an inbox. Known: {', '.join(ACTIONS)}.")
    needed = {"list": 0, "answer": 2}.get(action, 1)
    given = sum(argument is not None for argument in (number, file))
    if given != needed:
        form = " ".join([action, *("N", "FILE")[:needed]])
        raise KvolveError(f"`kvolve inbox RUN {action}` is given {given} arguments; its form is {form}.")
    if as_json and action != "list":
        raise KvolveError("--json is for the list only. Leave it out.")


def _list(asked: list["Letter"], as_json: bool, run: str) -> None:
    ages_s = [max(0.0, time.time() - letter.asked_at()) for letter in asked]
    if as_json:
        lines = [
            {
                "number": letter.number,
                "position": letter.position,
                "parent": letter.read()[0],
                "age_s": round(age_s, 1),
                "prompt": str(letter.prompt),
                "reply": str(letter.reply),
            }
            for letter, age_s in zip(asked, ages_s, strict=True)
        ]
        print(json.dumps(lines, indent=1))
    elif not asked:
        print(f"Nothing is asked for in {run}.")
    else:
        print("number  parent    age      prompt")
        for letter, age_s in zip(asked, ages_s, strict=True):
            print(f"{letter.number:>6}  {letter.read()[0][:8]:<8}  {_age(age_s):<7}  {letter.prompt}")


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _chosen(asked: list["Letter"], number: str, run: str) -> "Letter":
    """The newest open prompt of proposal `number`."""
    of_it = [letter for letter in asked if number.isdecimal() and letter.number == int(number)]
    if not of_it:
        known = ", ".join(str(number) for number in dict.fromkeys(letter.number for letter in asked))
        hint = f"It waits for {known}." if known else "It waits for no reply at all."
        raise KvolveError(f"{run} waits for no reply with the number {number!r}. {hint}")
    return of_it[-1]


def _reply(file: str) -> bytes:
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise KvolveError(f"The reply {file} cannot be read: {error.strerror}.") from error
    if not content.strip():
        raise KvolveError("The reply is empty. Give one, or use `kvolve inbox RUN skip N`.")
    return content


def _put(path: Path, content: bytes) -> None:
    from evolve.inbox import write_whole

    try:
        write_whole(path, content)
    except OSError as error:
        raise KvolveError(f"{path} cannot be written ({error.strerror}). Ask its owner.") from error
