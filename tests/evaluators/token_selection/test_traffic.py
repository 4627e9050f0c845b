"""What each seed reads besides keys and values, counted by hand, to the byte."""

import math

import numpy as np
import pytest

from evaluators.token_selection.problem import PROBLEM
from evaluators.token_selection.workloads import dense_bytes

G, D, H, PROMPT = 3, 64, 9, 992  # of the small recording
KEY = 2 * D  # bytes of a key in fp16
BUDGET = 3  # place of 20% among the budgets, at which every seed uses its index
INDEX = 8  # bytes that an Index costs, besides what is read of it
NUMBER = 8


def names(text: str) -> int:
    """What attributes cost by their names: eight bytes a letter, so that nothing can be kept in them."""
    return 8 * len(text.replace(" ", ""))


def left(n: int, spent: int) -> int:
    """Tokens per KV head that 20% of n tokens leave, when so much is spent."""
    return int((0.2 * dense_bytes(G, n, D) - spent) / dense_bytes(G, 1, D) + 1e-6)


def signs(bits: int, state: int):
    """One sign of each bit for every token."""
    return lambda n: G * n * bits // 8 + INDEX + G * bits // 8 + state


def pages(rows: int, width: int, each: int, state: int):
    """`rows` (of `width` bytes) for each `each` tokens; a new one is written when it is full."""
    return lambda n: G * (n // each) * rows * width + (G * rows * width if n % each == 0 else 0) + state


def squeezed(n: int) -> int:
    clusters = PROMPT // 32
    state = 3 * INDEX + NUMBER + names("clustered means sizes members")
    before = G * clusters * (KEY + 2) + state
    kept = int(left(n, before) * 0.98)
    newest = n - max(PROMPT, n - kept // 2)
    return before + G * 2 * (kept - newest - 4)


def listed(n: int, newest: int, bytes_each: int) -> int:
    """A list made by the prompt, of which the first places are read."""
    state = INDEX + NUMBER + names("order seen")
    return state + G * bytes_each * ((left(n, state) - newest) * 2 * KEY // (2 * KEY + bytes_each))


def h2o(n: int) -> int:
    state = 2 * INDEX + 2 * NUMBER + names("heavy masses looks seen kept mass")
    first = state + 2 * 16  # two lists without a token
    kept = left(1023, first) * 2 * KEY // (2 * KEY + 4)
    return (first if n == 1023 else state) + G * 4 * kept


def lserve(n: int) -> int:
    state = 3 * G * KEY + INDEX + 2 * NUMBER + names("scale bounds low high open age")
    if n == 1023:
        return state + G * 2 * D * (n // 16)
    # the choice is kept, and a page gets full
    return state + names("choice") + G * 2 * (1023 // 32) + G * 2 * D


def infllm(n: int) -> int:
    spans = (n - 32) // 16 + 1
    return 3 * G * KEY + NUMBER + INDEX + names("scale means half sum open") + G * D * (spans + (n % 16 == 0))


def learnt_signs(n: int) -> int:
    """32 signs of each token, and two maps of one byte a number with their shifts."""
    state = 3 * INDEX + names("query_map query_shift key_map key_shift signs")
    return G * (4 * (n + 1) + 2 * D * 32 + 2 * 32 * 2) + state


HASHED = G * KEY + names("centre bits")  # a mean key, and the names
PAGED = 2 * G * KEY + INDEX + NUMBER + names("bounds low high open")
LABELLED = 3 * G * 8 * 2 + INDEX + names("channels low step labels")
BY_HAND = {
    "a2ats": lambda n: G * (PROMPT // 48 * KEY + PROMPT) + 2 * INDEX + NUMBER + names("codes labels known"),
    "double_sparsity": lambda n: LABELLED + G * 4 * (n + 1),
    "duo_attention": lambda n: 8 + names("gates"),
    "h2o": h2o,
    "hash_attention": learnt_signs,
    "hashevict": signs(16, names("codes")),
    "hip": lambda n: 0,
    "infllm_v2": infllm,
    "lserve": lserve,
    "magicpig": signs(32, G * KEY + names("centre signs")),
    "quest": pages(2, KEY, 16, PAGED),
    "quest_sampled": pages(2, KEY, 16, PAGED),
    "razor_attention": lambda n: 8 + names("far"),
    "recent_window": lambda n: 0,
    "recycled_attention": lambda n: listed(n, n - PROMPT + 16, 2),
    "sale": lambda n: (
        G * (16 * n + 8 * 4 + D + 2 * KEY) + NUMBER + 8 * INDEX + names("channels low step parts")
    ),
    "scissorhands": lambda n: listed(n, n - PROMPT + 10, 2),
    "shadowkv": pages(
        1,
        16,
        8,
        2 * G * KEY
        + G * D * 16 * 2
        + G * 16 * 2
        + INDEX
        + 16
        + NUMBER
        + names("centre basis scale marks outliers sum open"),
    ),
    "simhash": signs(32, HASHED),
    "simhash_sampled": signs(32, HASHED),
    "sparq": lambda n: G * 12 * n * 2,
    "sparq_sampled": lambda n: G * 12 * n * 2,
    "specache": lambda n: (
        G * (8 * n + 8 + D + 2 * KEY) + NUMBER + 8 * INDEX + names("middle deviation channels parts")
    ),
    "squeezed_attention": squeezed,
    "squeezed_attention_sampled": lambda n: (
        G * (PROMPT // 32 * (KEY + 2) + PROMPT) + 3 * INDEX + NUMBER + names("clustered means sizes labels")
    ),
    "streaming_llm": lambda n: 0,
    "uniform_random": lambda n: 0,
    "vattention": learnt_signs,
}
VOTING = LABELLED + H * KEY + names("last voted")
# which reads depend on what the layer is like: whether a choice is reused, whether means are believed
BY_LAYER = {
    "flexprefill": lambda n: {
        G * 4 * min(PROMPT, 3 * int(0.2 * n))
        + G * KEY
        + 8
        + 3 * INDEX
        + NUMBER
        + names("scale means aware lines mass known")
        + G * D * (PROMPT // 16) * means
        for means in (0, 1)
    },
    "token_select": lambda n: (
        {VOTING + 8 + G * 4 * (n + 1)}
        | {VOTING + 2 * left(1023, VOTING + 8 + G * 4 * 1024) + G * 4 * again for again in (1, 1 + n)}
    ),
}


def test_every_seed_has_a_count():
    assert BY_HAND.keys() | BY_LAYER.keys() == {seed.name for seed in PROBLEM.seeds() if seed.role != "bound"}


@pytest.mark.parametrize("name", [*BY_HAND, *BY_LAYER])
def test_what_a_seed_reads_is_what_a_hand_count_says(name, examine):
    (source,) = (seed.source for seed in PROBLEM.seeds() if seed.name == name)
    examination = examine(source, "search")
    workload = examination.workload
    for layer in range(workload.layers):
        for case in workload.cases(0, layer):
            if case.budget != BUDGET:
                continue
            n = workload.length(case.step)
            found = examination.decisions[case.number].index_bytes
            if name in BY_HAND:
                assert found == BY_HAND[name](n), (layer, n)
            else:
                assert found in BY_LAYER[name](n), (layer, n)


def test_selected_tokens_cost_a_key_and_a_value_per_kv_head(examine):
    (source,) = (seed.source for seed in PROBLEM.seeds() if seed.name == "streaming_llm")
    examination = examine(source, "search")
    for case in examination.workload.cases(0, 1):
        n, budget = examination.workload.length(case.step), examination.workload.budgets[case.budget]
        counts = examination.decisions[case.number].counts
        assert (counts == math.floor(budget * n)).all()
    used = examination.value()["metrics"]["traffic@20.0%"]
    wanted = [math.floor(0.2 * n) / n for n in (1023, 1024)]
    assert used == pytest.approx(np.mean(wanted))
