"""A prefix cache of bounded size, in blocks of tokens that leave in the order of their last use."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

BLOCK = 16  # tokens

Cell = tuple[int, int]  # value id, length in tokens


def served(prompts: Iterable[Sequence[Cell]], capacity: float) -> list[int]:
    """How many tokens of each prompt are served from a cache of `capacity` tokens.

    A block is known by all tokens up to its end, and these by the values of the cells that it reaches into:
    tokens of different values differ. After a prompt, its blocks have been used last, the first one last of
    all; so no block outlives one before it, and the cached blocks of a prompt are always its first ones.
    """
    cached: OrderedDict[tuple[int, tuple[int, ...]], None] = OrderedDict()
    found = []
    for prompt in prompts:
        keys = list(block_keys(prompt))
        hits = 0
        while hits < len(keys) and keys[hits] in cached:
            hits += 1
        found.append(hits * BLOCK)
        for key in reversed(keys):
            cached[key] = None
            cached.move_to_end(key)
        while len(cached) * BLOCK > capacity:
            cached.popitem(last=False)
    return found


def block_keys(prompt: Sequence[Cell]) -> Iterable[tuple[int, tuple[int, ...]]]:
    """What each full block of a prompt is known by; a last block that is not full is never cached."""
    end, block = 0, 1
    values = tuple(value for value, _ in prompt)
    for cell, (_, length) in enumerate(prompt):
        end += length
        while block * BLOCK <= end:
            yield block, values[: cell + 1]
            block += 1
