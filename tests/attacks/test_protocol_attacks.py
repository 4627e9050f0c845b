"""Candidates that speak the judge's protocol themselves: questions out of turn, forged states and selections."""

# ruff: noqa: E501  (candidates stand on one line where that is the shortest)

import time

import pytest
from policies import FAIR, SPEAKING, policy

BEGIN = "turns = ask('begin')\n"
# In a process that selects; before it, the policies are built as those without any state.
BUILT = BEGIN + "if 'layers' in turns:\n    ask('done', **built(turns, {'dict': []}))\n    end()\n"

OUT_OF_TURN = {
    "an end before the beginning": "end()",
    "an end in the middle": BEGIN + "end()",
    "reading before the beginning": "ask('keys', turn=0, rows=np.zeros((3, 1), np.int32))",
    "done before the beginning": "ask('done', counts=np.ones(1))",
    "beginning twice": BEGIN + "ask('begin')",
    "a question that is none": BEGIN + "ask('holdout', turn=0)",
    "a question without a turn": BEGIN + "ask('prefill')",
    "a turn that is not there": BEGIN + "ask('prefill', turn=turns['count'])",
    "a turn before the first": BEGIN + "ask('prefill', turn=-1)",
    "a turn beyond all numbers": BEGIN + "ask('prefill', turn=np.uint64(2**64 - 1))",
    "a turn that is a float": BEGIN + "ask('prefill', turn=0.0)",
    "a turn that is not one": BEGIN + "ask('prefill', turn=[0, 1])",
    "values while an index is built": BEGIN + "ask('values', turn=0, rows=np.zeros((3, 1), np.int32))",
    "the keys of a whole layer while it selects": BUILT + "ask('prefill', turn=0)",
    "the tokens to come while it selects": BUILT + "ask('tokens', turn=0)",
    "an index that it does not have": BUILT + "ask('index', turn=0, index=0)",
    "a negative index": BUILT + "ask('index', turn=0, index=-1)",
    "appending to an index that it does not have": BUILT
    + "ask('append', turn=0, index=0, rows=np.zeros((3, 1, 8), np.uint8))",
    "rows that are not there": BUILT + "ask('keys', turn=0, rows=np.full((3, 1), 5000, np.int32))",
    "the row behind the last": BUILT
    + "ask('values', turn=0, rows=np.full((3, 1), turns['shapes'][0][2], np.int32))",
    "negative rows": BUILT + "ask('values', turn=0, rows=np.full((3, 1), -1, np.int32))",
    "rows of 64 bits": BUILT + "ask('keys', turn=0, rows=np.full((3, 1), 2**32, np.int64))",
    "rows of 2**31": BUILT + "ask('keys', turn=0, rows=np.full((3, 1), 2**31, np.uint32))",
    "rows of another number of heads": BUILT + "ask('keys', turn=0, rows=np.zeros((4, 1), np.int32))",
    "rows without heads": BUILT + "ask('keys', turn=0, rows=np.zeros(3, np.int32))",
    "no rows": BUILT + "ask('keys', turn=0)",
    "channels that are not there": BUILT + "ask('channels', turn=0, rows=np.full((3, 1), 64, np.int32))",
    "an end instead of a selection": BUILT + "end()",
    "nothing selected": BUILT + "ask('done')",
    "turns in place of a selection": BUILT + "ask('done', **built({'count': 12}, {'dict': []}))",
}

TOO_MUCH = {
    "a gather of a billion bytes": BUILT + "ask('keys', turn=0, rows=np.zeros((3, 3 << 20), np.int32))",
    "all channels a thousand times": BUILT + "ask('channels', turn=0, rows=np.zeros((3, 64_000), np.int32))",
    "a state of 60 MB": BEGIN
    + "ask('done', **built(turns, {'tensor': 'x', 'dtype': 'uint8', 'shape': [20 << 20]}, x=np.zeros(20 << 20, np.uint8)))",
    "a state of a gigabyte": BEGIN
    + "ask('done', **built(turns, {'tensor': 'x', 'dtype': 'uint8', 'shape': [1 << 30]}, x=np.zeros(1 << 30, np.uint8)))",
    "one tensor ten thousand times": BEGIN
    + "node = {'tensor': 'x', 'dtype': 'uint8', 'shape': [1 << 20]}\n"
    + "ask('done', **built(turns, {'list': [node] * 10_000}, x=np.zeros(1 << 20, np.uint8)))",
    "one index ten thousand times": BEGIN
    + "node = {'index': 'x', 'dtype': 'uint8', 'shape': [1, 1 << 20]}\n"
    + "ask('done', **built(turns, {'list': [node] * 10_000}, x=np.zeros(1 << 20, np.uint8)))",
}

TREES = {
    "no tree": "ask('done')",
    "a tree that is no text": "ask('done', **{'0.tree': np.zeros(9)})",
    "a tree that is no JSON": "ask('done', **built(turns, '{'))",
    "a tree that is not UTF-8": "ask('done', **{'0.tree': np.full(9, 255, np.uint8)})",
    "a tree of 2 MB": "ask('done', **built(turns, ' ' * (2 << 20)))",
    "an unknown node": "ask('done', **built(turns, {'function': 'exit'}))",
    "a bare list": "ask('done', **built(turns, [1, 2]))",
    "a node with more than it should have": "ask('done', **built(turns, {'plain': 1, 'free': 'x' * 1000}))",
    "a number of a million digits": "ask('done', **built(turns, '{\"plain\": ' + '9' * 1_000_000 + '}'))",
    "10,000 levels": "ask('done', **built(turns, '{\"list\": [' * 10_000 + ']}' * 10_000))",
    "10,000 brackets": "ask('done', **built(turns, '[' * 10_000 + ']' * 10_000))",
    "kept rows that are not there": "ask('done', **built(turns, {'kept': 0}))",
    "kept rows of a negative number": "ask('done', **built(turns, {'kept': -1}))",
    "a tensor that did not come": "ask('done', **built(turns, {'tensor': 'x', 'dtype': 'uint8', 'shape': [1]}))",
    "another turn's tensor": "ask('done', **built(turns, {'tensor': '../0.tree', 'dtype': 'uint8', 'shape': [1]}))",
    "a tensor of another size": (
        "ask('done', **built(turns, {'tensor': 'x', 'dtype': 'uint8', 'shape': [9]}, x=np.zeros(1, np.uint8)))"
    ),
    "a tensor of objects": (
        "ask('done', **built(turns, {'tensor': 'x', 'dtype': 'object', 'shape': [1]}, x=np.zeros(8, np.uint8)))"
    ),
    "a dtype that is a function": (
        "ask('done', **built(turns, {'tensor': 'x', 'dtype': 'load', 'shape': [1]}, x=np.zeros(1, np.uint8)))"
    ),
    "negative lengths": (
        "ask('done', **built(turns, {'tensor': 'x', 'dtype': 'uint8', 'shape': [-1, -1]}, x=np.zeros(1, np.uint8)))"
    ),
    "lengths that a zero hides": (
        "ask('done', **built(turns, {'tensor': 'x', 'dtype': 'uint8', 'shape': [0, 2**60]}, x=np.zeros(0, np.uint8)))"
    ),
    "300,000 dimensions": (
        "shape = [9] * 300_000 + [0]\n"
        "ask('done', **built(turns, {'tensor': 'x', 'dtype': 'uint8', 'shape': shape}, x=np.zeros(0, np.uint8)))"
    ),
    "an index without rows": (
        "ask('done', **built(turns, {'index': 'x', 'dtype': 'uint8', 'shape': [0, 0]}, x=np.zeros(0, np.uint8)))"
    ),
    "shares that are not there": "ask('done', shares=np.zeros(3), **built(turns, {'dict': []}))",
    "negative shares": "ask('done', shares=-np.ones(3), **built(turns, {'dict': []}))",
    "infinite shares": "ask('done', shares=np.full(3, np.inf), **built(turns, {'dict': []}))",
    "shares of NaN": "ask('done', shares=np.full(3, np.nan), **built(turns, {'dict': []}))",
    "shares for other layers": "ask('done', shares=np.ones(30), **built(turns, {'dict': []}))",
}

SELECTIONS = {
    "a token before the first": "selected(turns, [-1])",
    "a token behind the last": "selected(turns, [turns['shapes'][0][2]])",
    "a token of 2**31 - 1": "selected(turns, [2**31 - 1])",
    "a token twice": "selected(turns, [5, 5])",
    "no tokens": "selected(turns, [])",
    "more than there are": "selected(turns, list(range(2_000)))",
    "a negative number of tokens": "selected(turns, [1]) | {'counts': -np.ones((len(turns['shapes']), 9), np.int32)}",
    "numbers that overflow": (
        "selected(turns, [1]) | {'counts': np.full((len(turns['shapes']), 9), 2**31 - 1, np.int32)}"
    ),
    "numbers that are floats": "selected(turns, [1]) | {'counts': np.ones((len(turns['shapes']), 9))}",
    "numbers for other heads": "selected(turns, [1]) | {'counts': np.ones((len(turns['shapes']), 90), np.int32)}",
    "more tokens than it says": "selected(turns, [1]) | {'indices': np.ones(5000, np.int32)}",
    "tokens that are floats": "selected(turns, [1]) | {'indices': np.ones(9 * len(turns['shapes']))}",
    "probabilities of 64 bits": "selected(turns, [1]) | {'probabilities': np.ones(9 * len(turns['shapes']))}",
    "no probabilities": "{k: v for k, v in selected(turns, [1]).items() if k != 'probabilities'}",
    "probabilities of NaN": "selected(turns, [1], np.nan)",
    "probabilities of zero": "selected(turns, [1], 0.0)",
    "probabilities above one": "selected(turns, [1], 2.0)",
}


def speaking(text):
    """A candidate that says `text` to the judge, and is never asked as a policy."""
    return f"{SPEAKING}\n{text}\nend()\n"


@pytest.mark.parametrize("name", OUT_OF_TURN)
def test_question_out_of_turn_ends_the_stage(policies, name):
    policies.assert_fails(speaking(OUT_OF_TURN[name]), "invalid_output")


@pytest.mark.parametrize("name", TOO_MUCH)
def test_claim_on_the_judges_memory_is_refused_at_once(policies, name):
    began = time.monotonic()
    policies.assert_fails(speaking(TOO_MUCH[name]), "memory", "invalid_output")
    assert time.monotonic() - began < 10  # far below the patience of a run


@pytest.mark.parametrize("name", TREES)
def test_forged_state_is_refused_at_once(policies, name):
    began = time.monotonic()
    policies.assert_fails(speaking(BEGIN + TREES[name]), "invalid_output", "interface")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("name", SELECTIONS)
def test_forged_selection_has_no_score(policies, name):
    policies.assert_fails(speaking(f"{BUILT}ask('done', **({SELECTIONS[name]}))"), "invalid_output")


# What they read is charged, to whichever turn they say; then they claim the best tokens, and nothing else.
BEST = """
count, (heads, kv_heads, length, size, _, _) = len(turns["shapes"]), turns["shapes"][0]
everything = np.tile(np.arange(length, dtype=np.int32), (kv_heads, 1))
best, counts = [], []
for turn in range(count):
    keys = ask(READ, turn=TURN, rows=everything)["rows"].astype(np.float32)
    scores = np.einsum("grd,gnd->grn", turns["queries"][turn].reshape(kv_heads, -1, size), keys)
    kept = max(1, int(float(turns["budgets"][turn]) * length / 3))
    chosen = np.argsort(-scores.reshape(heads, -1), 1)[:, :kept].astype(np.int32)
    best.append(chosen.reshape(-1))
    counts.append([kept] * heads)
best = np.concatenate(best)
ask("done", counts=np.array(counts, np.int32), indices=best, probabilities=np.ones(len(best), np.float32))
"""
READS = {
    "all keys": ("keys", "turn"),
    "all scores, as an oracle would": ("scores", "turn"),
    "all keys on the account of the last turn": ("keys", "count - 1"),
    "all keys on the account of the first turn": ("keys", "0"),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("stage", ["search", "validation"])
def test_what_is_read_and_not_selected_is_paid_for(policies, name, stage):
    question, turn = READS[name]
    source = speaking(BUILT + BEST.replace("READ", repr(question)).replace("TURN", turn))
    policies.assert_unpaid(source, stage)


def test_shares_cannot_stretch_the_budget(policies):
    for shares in ("[1e300, 1e-300, 1e-300]", "[5e-324] * 3", "[1.0, 1e17, 1.0]"):
        methods = f"def layer_shares(self, layers):\n    return {shares}\n"
        policies.assert_unpaid(policy(methods=methods))


def test_bound_that_sees_everything_does_so_by_its_own_text_only(policies):
    (bound,) = (seed.source for seed in policies.problem.seeds() if seed.name == "oracle_top_k")
    assert policies.run(bound).failure is None
    policies.assert_unpaid(bound + "\n")
    policies.assert_unpaid("ORACLE = True\n" + FAIR)
