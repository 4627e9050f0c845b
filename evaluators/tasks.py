"""Long-context tasks with an answer that is known: retrieval, tracing and counting, drawn from a seed.

They have the shape of RULER's (Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context
Language Models?", arXiv:2404.06654): a pass key, one of several needles, a chain of variables, frequent
words. The context grows until it fills the length that is asked for; the question comes behind it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from evaluators.corpus import opening_tokens
from kvolve import KvolveError

NOISE = (
    "Rain fell on the hills all day. ",
    "The road to the mill was quiet. ",
    "Nobody spoke of the harvest. ",
    "A lamp burned in the window of the inn. ",
)
THINGS = (
    *("anchor", "basket", "candle", "drum", "engine", "feather", "garden", "hammer", "island", "jacket"),
    *("kettle", "ladder", "mirror", "needle", "orchard", "pillow", "quilt", "ribbon", "saddle", "teapot"),
)
NEEDLES, HOPS, FREQUENT = 4, 3, 3
TASKS = "tasks"  # the stage in which policies answer them
LEAST, MOST = 32, 1 << 16  # sentences, or words of a list


@dataclass(frozen=True)
class Task:
    """A context, what is asked behind it, and the answer."""

    context: str
    question: str
    answer: str


@dataclass(frozen=True)
class Posed:
    """A task in the tokens of a model."""

    kind: str
    tokens: tuple[int, ...]
    prefill: int  # tokens of the context
    answer: int  # how many of the last tokens are the answer


def pass_key(size: int, random: Generator) -> Task:
    """One number in text that says nothing."""
    key = _number(random)
    said = f"The pass key is {key}. Remember it: {key} is the pass key. "
    return Task(_hidden(_noise(size), [said], random), "\nWhat is the pass key?\nThe pass key is", f" {key}")


def needles(size: int, random: Generator) -> Task:
    """One of several numbers, each of which belongs to another thing."""
    things = random.choice(THINGS, NEEDLES, replace=False)
    numbers = [_number(random) for _ in things]
    said = [f"The number of the {thing} is {number}. " for thing, number in zip(things, numbers, strict=True)]
    wanted = int(random.integers(NEEDLES))
    asked = f"The number of the {things[wanted]} is"
    question = f"\nWhat is the number of the {things[wanted]}?\n{asked}"
    return Task(_hidden(_noise(size), said, random), question, f" {numbers[wanted]}")


def variables(size: int, random: Generator) -> Task:
    """Variables that were assigned from each other, and hold a number that was said once."""
    names = _words(2 * (HOPS + 1), 5, random, upper=True)
    number, other = _number(random), _number(random)
    chains = []
    for value, chain in ((number, names[: HOPS + 1]), (other, names[HOPS + 1 :])):
        sources = [value, *chain]
        chains.append([f"VAR {name} = {source}. " for name, source in zip(chain, sources, strict=False)])
    said = [line for pair in zip(*chains, strict=True) for line in pair]  # each before what is made of it
    question = f"\nWhich variables hold {number}?\nThe variables that hold {number} are"
    return Task(
        _hidden(_noise(size), said, random, in_order=True), question, " " + ", ".join(names[: HOPS + 1])
    )


def frequent_words(size: int, random: Generator) -> Task:
    """The words that occur most often in a list; how often, falls with the square of the rank."""
    words = _words(max(8, size // 8), 6, random)
    shares = 1 / np.arange(1, len(words) + 1) ** 2.0
    counts = np.maximum(1, np.round(shares / shares.sum() * size)).astype(int)
    listed = [word for word, count in zip(words, counts, strict=True) for _ in range(count)]
    random.shuffle(listed)
    question = "\nWhich three words occur most often?\nThe three words that occur most often are"
    return Task(" ".join(listed) + ". ", question, " " + ", ".join(words[:FREQUENT]))


KINDS: dict[str, Callable[[int, Generator], Task]] = {
    "pass key": pass_key,
    "needles": needles,
    "variables": variables,
    "frequent words": frequent_words,
}


def pose(kind: str, tokenizer: Any, length: int, seed: tuple[int, ...]) -> Posed:
    """A task whose context has at most `length` tokens, and as many as whole sentences make.

    Raises KvolveError for a length that has no room for it.
    """

    def made(size: int) -> tuple[Task, list[int]]:
        task = KINDS[kind](size, np.random.default_rng(seed))
        own = tokenizer(task.context, add_special_tokens=False, verbose=False).input_ids
        return task, [*opening_tokens(tokenizer), *own]

    low, high = LEAST, MOST  # of these sizes, the first fits and the second does not
    if len(made(low)[1]) > length:
        raise KvolveError(f"The task {kind!r} does not fit into {length:,} tokens. Give it a longer prefill.")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if len(made(middle)[1]) <= length else (low, middle)
    task, context = made(low)
    question, answer = (
        tokenizer(part, add_special_tokens=False).input_ids for part in (task.question, task.answer)
    )
    return Posed(kind, (*context, *question, *answer), len(context), len(answer))


def _noise(size: int) -> list[str]:
    return [NOISE[number % len(NOISE)] for number in range(size)]


def _hidden(sentences: list[str], said: list[str], random: Generator, in_order: bool = False) -> str:
    """`said` at random places between the sentences."""
    places = random.integers(len(sentences) + 1, size=len(said)).tolist()
    order = sorted(places) if in_order else places
    behind: dict[int, list[str]] = {}
    for place, line in zip(order, said, strict=True):
        behind.setdefault(place, []).append(line)
    parts = [
        part
        for place in range(len(sentences) + 1)
        for part in (*behind.get(place, ()), *sentences[place : place + 1])
    ]
    return "".join(parts)


def _number(random: Generator) -> str:
    return str(random.integers(10_000, 100_000))


def _words(count: int, letters: int, random: Generator, upper: bool = False) -> list[str]:
    """Different words that mean nothing."""
    found: dict[str, None] = {}
    while len(found) < count:
        drawn = random.integers(26, size=letters)
        word = "".join(chr(ord("A" if upper else "a") + int(letter)) for letter in drawn)
        found[word] = None
    return list(found)
