"""The contexts on which eviction policies are judged: running text in which facts are hidden.

What comes behind a context is unknown to the policy: a continuation, and conversations of two questions each.
A policy that keeps recent tokens only, or only what is attended to now, fails in one of the shapes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.random import Generator

from evaluators.corpus import SPLITS, Split, Text, cut_passages, opening_tokens, passages_of, shipped_texts
from evaluators.kv_eviction.facts import Fact, one_of_several, pass_key, row
from evaluators.kv_eviction.running_text import RunningText, running_text
from evaluators.tasks import THINGS
from kvolve import KvolveError

# in the order in which the contexts of a split get them: the first four have least in common
SHAPES = (
    *("code", "recurring", "instruction_start", "table"),
    *("repeated", "topic_shift", "plain", "instruction_end"),
)
LEAST = 256  # tokens of a context
QUOTED = 64  # tokens of the context with which a continuation begins, where it quotes
INSTRUCTION = (  # the question recalls it: the default model begins no answer differently because it was told
    "\n\nInstruction: the code word is {word}. Remember it: {word} is the code word. "
    "Begin the answer to each question with the code word.\n\n"
)
TABLE = "\n\n{mark}| thing | number | colour |\n{mark}|---|---|---|\n"
WORDS = ("Kestrel", "Harbour", "Lantern", "Meadow", "Pepper", "Saturn", "Velvet", "Walnut")
COLOURS = ("red", "blue", "green", "black", "white", "yellow", "brown", "grey")
SLACK = 0.06  # of a context that is left out at its start, so that it ends with a sentence


@dataclass(frozen=True)
class Asked:
    """A question and its answer, in tokens."""

    kind: str  # "single" (the pass key), "multi" (one of several alike lines), "instruction" or "table"
    depth: float  # where in the context the answer stands, 0..1
    question: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Context:
    """A context of N tokens, and what may come behind it."""

    name: str
    shape: str  # one of SHAPES
    tokens: tuple[int, ...]  # N
    continuation: tuple[int, ...]  # C + 1: its first C are fed, the last C are predicted
    conversations: tuple[tuple[Asked, Asked], ...]


def contexts_of(
    split: Split, tokenizer: Any, length: int, continuation: int = 256, texts: Sequence[Text] | None = None
) -> tuple[Context, ...]:
    """The contexts of `length` tokens of a split, with continuations of `continuation` + 1 tokens.

    The 8 shipped texts of the split, or those of a user, which are shared out as for a recording. A shipped
    text that is too short goes on with the other one of its kind. Raises KvolveError for texts that are too
    short, for a split without a text, and for contexts that have no room for four facts.
    """
    if length < LEAST:
        raise KvolveError(f"A context needs {LEAST} tokens or more, not {length}, to hide facts in it.")
    needed = length + round(SLACK * length) + continuation + 1
    if texts is None:
        passages = [passages_of(text, tokenizer, needed)[0] for text in _chained(split)]
    else:
        passages = [p for p in cut_passages(texts, tokenizer, needed)[0] if split in p.splits]
    if not passages:
        raise KvolveError(f"No text belongs to the {split} split, so give it one.")
    opening = len(opening_tokens(tokenizer))
    sources = [running_text(tokenizer, passage.tokens[opening:], passage.text) for passage in passages]
    others = [*sources[1:], sources[0]]
    if len(sources) == 1:
        text = _chained(split)[1]
        others = [running_text(tokenizer, passages_of(text, tokenizer, needed)[0].tokens[opening:], text)]
    contexts, left = [], list(SHAPES)
    for number, (passage, source, other) in enumerate(zip(passages, sources, others, strict=True)):
        left = left if set(left) - {"code"} else list(SHAPES)
        fitting = [shape for shape in left if (shape == "code") <= bool(source.comment)]
        shape = fitting[0]
        left.remove(shape)
        name = passage.text.name.removesuffix(".txt")
        name += f"@{passage.token_range[0]}" * bool(passage.token_range[0])
        made = _Making(tokenizer, split, name, shape, number, length)
        contexts.append(made.context(passage.tokens[:opening], source, other, continuation))
    return tuple(contexts)


def _chained(split: Split) -> list[Text]:
    """The shipped texts of a split, one of each kind first; each goes on with the other of its kind."""
    by_kind: dict[str, list[Text]] = {}
    for text in shipped_texts():
        if split in text.splits:
            by_kind.setdefault(text.kind, []).append(text)
    kinds = [by_kind[kind] for kind in ("code", "prose", "dialogue", "documentation")]
    pairs = [(pair[turn], pair[1 - turn]) for turn in range(2) for pair in kinds]
    return [replace(text, content=f"{text.content}\n\n{other.content}") for text, other in pairs]


@dataclass(frozen=True)
class _Piece:
    """What is put into the running text, from `low` to `high` near `target`, as shares of the context."""

    parts: tuple[str | tuple[int, ...] | Fact, ...]
    low: float
    high: float
    target: float


@dataclass
class _Built:
    """The tokens of a context up to the last piece, and where things are in it."""

    tokens: list[int]
    used: int  # tokens of the running text
    answers: dict[str, int]
    places: list[tuple[int, int]]  # of the pieces: in the running text, in the context


@dataclass(frozen=True)
class _Making:
    """One context in the making."""

    tokenizer: Any
    split: Split
    name: str
    shape: str
    number: int  # of the context in its split
    length: int

    def context(
        self, opening: tuple[int, ...], source: RunningText, other: RunningText, continuation: int
    ) -> Context:
        """The context over a running text, with `continuation` + 1 tokens behind it."""
        text, half = source, 0
        if self.shape == "topic_shift":
            half = source.place(0.42 * self.length, 0.5 * self.length, 0.46 * self.length)
            text = source.until(half, other)
        facts, follows = self.facts(text.comment), self.shape.startswith("instruction")
        word = str(self.random("word").choice(WORDS)) if follows else ""
        instruction = INSTRUCTION.format(word=word)
        head = opening + self.tokens(instruction * (self.shape == "instruction_start"))
        tail = self.tokens(instruction * (self.shape == "instruction_end"))
        built = self.built(head, tail, text, facts, 0)
        room = self.length - len(built.tokens) - len(tail) + built.used  # for the running text
        end, left_out = room, 0
        if self.shape not in {"plain", "code"}:
            least = room + 8  # some more, because a line's indentation depends on its place
            end = text.place(least, room + SLACK * self.length, least)
            built = self.built(head, tail, text, facts, end - room)
        tokens = [*built.tokens, *text.tokens[built.used : end], *tail]
        left_out = len(tokens) - self.length
        del tokens[len(head) : len(head) + left_out]
        behind = source.tokens[half:] if self.shape == "topic_shift" else text.tokens[end:]
        if self.shape == "recurring":
            place, at = built.places[0]
            begin = at - left_out - place + text.place(place - 32, place - 4, place - 16)
            behind = (*self.tokens("\n\n"), *tokens[begin : begin + QUOTED], *self.tokens("\n"), *behind)
        if self.shape == "repeated":
            begin, _ = self.passage(text)
            behind = (*self.tokens("\n\n"), *text.tokens[begin : begin + QUOTED], *self.tokens("\n"), *behind)
        asked = []
        for fact in facts:
            depth = (built.answers[fact.line[1]] - left_out) / self.length
            kind = "instruction" if word else fact.kind
            asked.append(Asked(kind, depth, *map(self.tokens, fact.asked(word))))
        turns = ((0, 2), (3, 1)) if self.number % 2 == 0 else ((2, 0), (1, 3))
        return Context(
            f"{self.name} + {self.shape}",
            self.shape,
            tuple(tokens),
            behind[: continuation + 1],
            tuple((asked[first], asked[second]) for first, second in turns),
        )

    def tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids) if text else ()

    def random(self, purpose: str) -> Generator:
        digest = hashlib.sha256(f"{self.split}/{self.name}/{purpose}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8]))

    @cached_property
    def numbered(self) -> list[tuple[str, str]]:
        """Things with numbers of five digits, which differ from those of other splits."""
        drawn = self.random("numbers").choice(90_000 // len(SPLITS), len(THINGS), replace=False)
        numbers = 10_000 + len(SPLITS) * drawn + SPLITS.index(self.split)
        things = self.random("things").permutation(THINGS)
        return [(str(thing), str(number)) for thing, number in zip(things, numbers, strict=True)]

    def facts(self, comment: str) -> list[Fact]:
        """A fact for each quarter."""
        mark = f"{comment} " if comment else ""
        key = pass_key(mark, self.numbered[0][1])
        facts = [key, *(one_of_several(mark, *pair) for pair in self.numbered[1:4])]
        turn = self.number % 4
        facts = facts[-turn:] + facts[:-turn]
        if self.shape == "table":
            rows = self.rows(mark)
            quarter = len(rows) // 4
            if turn in {1, 2}:  # the pass key would stand where the table is
                facts[0] = key
            draw = self.random("rows")
            facts[1] = rows[int(draw.integers(quarter))]
            facts[2] = rows[int(draw.integers(len(rows) - quarter, len(rows)))]
        return facts

    def rows(self, mark: str) -> list[Fact]:
        count = min(max(self.length // 128, 4), 16)
        colours = self.random("colours").choice(COLOURS, count)
        named = zip(self.numbered[-count:], colours, strict=True)
        return [row(mark, thing, number, str(colour)) for (thing, number), colour in named]

    def passage(self, text: RunningText) -> tuple[int, int]:
        """Where in the running text the passage stands that is repeated: behind what may be left out."""
        size = self.length
        begin = text.place((SLACK + 0.02) * size, (SLACK + 0.04) * size, (SLACK + 0.03) * size)
        return begin, text.place(begin + 0.05 * size, begin + 0.07 * size, begin + 0.06 * size)

    def pieces(self, text: RunningText, facts: Sequence[Fact]) -> list[_Piece]:
        """What is put into the running text, in order."""
        near = self.random("places").uniform(0.35, 0.65, 4)
        pieces = [
            _Piece((fact,), (quarter + 0.15) / 4, (quarter + 0.8) / 4, (quarter + near[quarter]) / 4)
            for quarter, fact in enumerate(facts)
        ]
        if self.shape == "table":
            mark = f"{text.comment} " if text.comment else ""
            parts: list[str | tuple[int, ...] | Fact] = [TABLE.format(mark=mark)]
            for cells in self.rows(mark):
                parts += [cells, "\n"]
            half = sum(len(self.part(part)) for part in parts) / self.length / 2
            table = _Piece(tuple(parts), 0.5 - 1.4 * half, 0.5 - 0.7 * half, 0.5 - half)
            pieces[1:3] = [table]
        if self.shape == "repeated":
            begin, end = self.passage(text)
            middle = text.place(begin + 4, end - 4, (begin + end) / 2)
            halves = text.tokens[begin:middle], text.tokens[middle:end]
            pieces[0] = replace(pieces[0], low=0.18)
            pieces[1] = replace(pieces[1], parts=("\n\n", halves[0], "\n", facts[1], "\n", halves[1], "\n\n"))
            pieces.insert(3, _Piece(("\n\n", *halves, "\n\n"), 0.70, 0.74, 0.72))
        return pieces

    def part(self, part: str | tuple[int, ...] | Fact) -> tuple[int, ...]:
        match part:
            case str():
                return self.tokens(part)
            case Fact(line=line):  # so that the answer has the tokens here that it will have there
                return tuple(token for piece in line for token in self.tokens(piece))
        return part

    def built(
        self,
        head: Sequence[int],
        tail: Sequence[int],
        text: RunningText,
        facts: Sequence[Fact],
        left_out: int,
    ) -> _Built:
        """The context up to the last piece; `left_out` tokens behind `head` will be cut off."""
        made = _Built(list(head), 0, {}, [])
        for piece in self.pieces(text, facts):
            put = len(made.tokens) - made.used - left_out
            low, high, target = (share * self.length - put for share in (piece.low, piece.high, piece.target))
            last = self.length - len(tail) - put - sum(len(self.part(part)) for part in piece.parts) - 8
            low = max(min(low, last), made.used)
            place = text.place(low, max(low, min(high, last)), target)
            made.tokens += text.tokens[made.used : place]
            made.used = place
            made.places.append((place, len(made.tokens)))
            parts = piece.parts
            if len(parts) == 1 and isinstance(parts[0], Fact):
                fact, (lead, end) = parts[0], text.around(place)
                before, said, after = fact.line
                parts = (replace(fact, line=(lead + before, said, after + end)),)
            for part in parts:
                if isinstance(part, Fact):
                    made.answers[part.line[1]] = len(made.tokens) + len(self.tokens(part.line[0]))
                made.tokens += self.part(part)
        return made
