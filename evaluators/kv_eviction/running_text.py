"""Running text in tokens, and where something can be put into it without cutting a sentence or a word."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evaluators.corpus import Text

COMMENTS = {"py": "#", "go": "//", "c": "//", "cpp": "//", "h": "//", "js": "//", "ts": "//", "rs": "//"}
ENDS = {  # of what stands before a place in the text, from the best places to those that are always found
    "sentence": re.compile(r"([a-z]{3}|[a-z][)`*'\"])[.!?]['\")]*\s*\Z|\n[ \t]*\n\s*\Z"),
    "line": re.compile(r"\n[ \t]*\Z"),
    "word": re.compile(r"\s\Z"),
}
SEEN = 12  # characters before a place that are looked at


@dataclass(frozen=True)
class RunningText:
    """Running text in tokens, and what each of them says."""

    tokens: tuple[int, ...]
    says: tuple[str, ...]
    comment: str  # how one begins in the language of the text, "" for a text that is no code

    @cached_property
    def breaks(self) -> dict[str, list[int]]:
        """Before which tokens something can be put in, the best places first."""
        found: dict[str, list[int]] = {kind: [] for kind in ENDS if kind != "sentence" or not self.comment}
        for place in range(1, len(self.tokens)):
            before = "".join(self.says[max(0, place - SEEN) : place])[-SEEN:]
            after = self.says[place]
            space = after[: len(after) - len(after.lstrip())]
            if bool(space) != before[-1:].isspace() or before.endswith("\n"):  # not within an indentation
                for kind, places in found.items():
                    if ENDS[kind].search(before + space):
                        places.append(place)
        return found

    def place(self, low: float, high: float, target: float) -> int:
        """The best break from `low` to `high`, near `target`."""
        for places in self.breaks.values():
            if fitting := [place for place in places if low <= place <= high]:
                return min(fitting, key=lambda place: abs(place - target))
        return round(min(max(target, low), high))

    def until(self, place: int, other: "RunningText") -> "RunningText":
        """The text up to a place, and another one behind it."""
        return RunningText(self.tokens[:place] + other.tokens, self.says[:place] + other.says, self.comment)

    def around(self, place: int) -> tuple[str, str]:
        """What makes of a line that is put in there a line of its own, or a sentence behind others."""
        before, after = self.says[place - 1], "".join(self.says[place : place + SEEN])
        indent = re.match(r"\s*?([ \t]*)(?=\S)", after) if self.comment else None
        if before.endswith("\n"):
            return indent[1] if indent else "", "\n"
        if after.startswith("\n"):
            return "\n" + (indent[1] if indent else ""), ""
        return (" ", "") if after[:1].isspace() else ("", " ")


def running_text(tokenizer: Any, tokens: Sequence[int], text: Text) -> RunningText:
    """The tokens of a text with what each of them says."""
    # decoded behind another token, because some tokenizers drop the space before the first one
    first = tokenizer("a", add_special_tokens=False).input_ids
    begun = len(tokenizer.decode(first))
    known = {token: tokenizer.decode([*first, token])[begun:] for token in set(tokens)}
    return RunningText(tuple(tokens), tuple(known[token] for token in tokens), _comment(text))


def _comment(text: Text) -> str:
    """How a comment begins in the language of a text; "" for a text that is no code."""
    name, end = text.name.removesuffix(".txt"), "_" if text.kind == "code" else "."
    return COMMENTS.get(name.rpartition(end)[2], "") if end in name else ""
