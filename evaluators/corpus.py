"""The texts that a model is recorded over: those that ship with the project, and those of a user."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from kvolve import KvolveError

Split = Literal["search", "validation", "holdout"]
SPLITS: tuple[Split, ...] = get_args(Split)
TEXTS = Path(__file__).parent / "texts"
CONTEXTS_PER_FILE = 4  # of a user's text: more of the same file adds little that is new


@dataclass(frozen=True)
class Text:
    """One text to record. Texts without `splits` are shared out over the splits when they are recorded."""

    name: str
    kind: str
    content: str
    splits: tuple[Split, ...] = ()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content.encode()).hexdigest()


@dataclass(frozen=True)
class Passage:
    """One context of a text: the tokens to run, and which tokens of the text they are (half-open)."""

    text: Text
    splits: tuple[Split, ...]
    tokens: tuple[int, ...]
    token_range: tuple[int, int]


def shipped_texts() -> tuple[Text, ...]:
    """The 24 texts of the project: two of each of four kinds in every split; the names say kind and split."""
    return tuple(
        shipped_text(path.relative_to(TEXTS).as_posix())
        for path in sorted(TEXTS.glob("*/*-*.txt"))
        if path.parent.name != "licences"
    )


def shipped_text(name: str) -> Text:
    """One shipped text by its path below `texts/`, such as `prose/search-emma.txt`."""
    path = TEXTS / name
    split = next(split for split in SPLITS if path.name.startswith(f"{split}-"))
    return Text(name, path.parent.name, path.read_text(encoding="utf-8"), (split,))


def user_texts(paths: Sequence[Path]) -> tuple[Text, ...]:
    """The texts in a user's files. Raises KvolveError for a file that is missing, unreadable or not UTF-8."""
    texts = []
    for path in paths:
        try:
            texts.append(Text(path.name, "text", path.read_text(encoding="utf-8")))
        except UnicodeDecodeError as error:
            raise KvolveError(f"The text {path} is not UTF-8. Convert it first.") from error
        except OSError as error:
            raise KvolveError(f"The text {path} cannot be read: {error.strerror}.") from error
    return tuple(texts)


def cut_passages(texts: Sequence[Text], tokenizer: Any, length: int) -> tuple[tuple[Passage, ...], str]:
    """The passages of `length` tokens that `texts` give, and a warning ("" for none).

    A text with splits of its own gives one passage, any other as many as fit, up to `CONTEXTS_PER_FILE`;
    passages never overlap. Three or more texts without splits go to search, validation and holdout in turn,
    so that no text is in two of them; with fewer, single passages do, and the warning says so.

    Raises KvolveError for a text that is too short or given twice, and for fewer than three passages in all.
    """
    if len({text.sha256 for text in texts}) < len(texts):
        raise KvolveError(
            "The same text was given twice, so that the splits would overlap. Give each text once."
        )
    by_text = [passages_of(text, tokenizer, length) for text in texts]
    free = [number for number, text in enumerate(texts) if not text.splits]
    warning = ""
    if len(free) >= len(SPLITS):
        turns = {number: SPLITS[turn % len(SPLITS)] for turn, number in enumerate(free)}
        by_text = [
            [_moved(passage, turns[number]) if number in turns else passage for passage in passages]
            for number, passages in enumerate(by_text)
        ]
    passages = [passage for passages in by_text for passage in passages]
    loose = [number for number, passage in enumerate(passages) if not passage.splits]
    if loose:
        warning = "fewer than three texts: search, validation and holdout are passages of the same text"
        if len(loose) < len(SPLITS):
            raise KvolveError(
                f"The texts give {len(loose)} contexts of {length:,} tokens, and at least 3 are needed "
                "(search, validation, holdout). Give more or longer texts, or a shorter prefill."
            )
        for turn, number in enumerate(loose):
            passages[number] = _moved(passages[number], SPLITS[turn % len(SPLITS)])
    return tuple(passages), warning


def opening_tokens(tokenizer: Any) -> tuple[int, ...]:
    """What a model's texts begin with: a BOS token, or nothing."""
    prefix = tuple(tokenizer("").input_ids)
    if prefix and prefix[-1] == tokenizer.eos_token_id != tokenizer.bos_token_id:
        prefix = prefix[:-1]
    return prefix


def passages_of(text: Text, tokenizer: Any, length: int) -> list[Passage]:
    """The passages of `length` tokens that one text gives; they never overlap.

    Raises KvolveError for a text that is too short.
    """
    prefix = opening_tokens(tokenizer)
    # not verbose: the text is cut below, so that a warning about the model's window would mislead
    tokens = tokenizer(text.content, add_special_tokens=False, verbose=False).input_ids
    own = length - len(prefix)
    count = min(len(tokens) // own, 1 if text.splits else CONTEXTS_PER_FILE)
    if not count:
        raise KvolveError(
            f"The text {text.name} has {len(tokens):,} tokens, and {own:,} are needed. Give a longer one."
        )
    return [
        Passage(text, text.splits, (*prefix, *tokens[at : at + own]), (at, at + own))
        for at in range(0, count * own, own)
    ]


def _moved(passage: Passage, split: Split) -> Passage:
    return replace(passage, splits=(split,))
