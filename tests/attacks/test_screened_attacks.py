"""The same ideas in the language that the screen allows: they are refused, or they gain nothing."""

# ruff: noqa: E501  (candidates stand on one line where that is the shortest)

import pytest
from policies import policy, refusals

REFUSED = {
    "another module": policy(prelude="import os\n"),
    "a module of torch": policy("x = torch.os.getpid()"),
    "torch's own files": policy("x = torch.load('/tmp/x')"),
    "an attribute that is internal": policy("cache._link.spent_bytes = 0"),
    "a class behind an object": policy("x = ().__class__.__base__.__subclasses__()"),
    "the globals of a function": policy("x = self.select.__globals__"),
    "a name for another's method": policy("cache.affordable = lambda budget: cache.length"),
    "a global": policy("global SEEN\nSEEN = query", prelude="SEEN = 0\n"),
    "a list of the module": policy("SEEN.append(query)", prelude="SEEN = []\n"),
    "a list of the class": policy("self.seen.append(query)", methods="seen = []"),
    "an attribute of the class": policy("Policy.seen = query"),
    "a default argument": policy(methods="def remember(self, key, seen=[]):\n    seen.append(key)\n"),
    "a nonlocal": policy("seen = 0\ndef f():\n    nonlocal seen\n    seen = 1"),
    "an attribute of a function": policy("torch.zeros.seen = query"),
    "a generator that outlives its call": policy("def f():\n    yield query"),
    "an exception that swallows limits": policy("try:\n    x = 1\nexcept Exception:\n    x = 2"),
    "an exception without a name": policy("try:\n    x = 1\nexcept:\n    x = 2"),
    "a finally that swallows exceptions": policy("try:\n    x = 1\nfinally:\n    x = 2"),
    "the identity of an object": policy("x = id(query)"),
    "an address in memory": policy("x = query.data_ptr()"),
    "memory of others, uninitialised": policy("x = torch.empty(1000)"),
    "an array of numpy": policy("x = query.numpy()"),
    "the ambient generator": policy("x = torch.default_generator"),
    "the ambient seed": policy("torch.manual_seed(1)"),
    "threads": policy("torch.set_num_threads(8)"),
    "code from text": policy("exec('x = 1')"),
    "attributes by name": policy("x = getattr(cache, 'length')"),
    "a format that reads attributes": policy("x = '{0._link}'.format(cache)"),
    "a finaliser": policy(methods="def __del__(self):\n    pass\n"),
    "a metaclass": "class Policy(metaclass=type):\n    pass\n",
    "a decorator": policy(methods="@property\ndef x(self):\n    return 1\n"),
    "an import within a function": policy("import sys"),
    "an integer bomb": policy("x = 9 ** 9 ** 9"),
    "a deep expression": policy("x = " + "(" * 60 + "1" + ",)" * 60),
    "a program of a megabyte": policy(prelude=f"# {'x' * (1 << 20)}\n"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_idea_is_refused_before_anything_runs(name):
    found = refusals(REFUSED[name])
    assert found
    assert all(refusal.line >= 1 and refusal.construct and refusal.advice for refusal in found)


def allowed(source):
    assert refusals(source) == []
    return source


# What a policy can try within the language to carry what it saw from one call to the next for less than its price.
CARRYING = {
    "the cache itself": ("self.cache = cache", ""),
    "its own method": ("self.method = self.select", ""),
    "a set": ("self.seen = {1, 2}", ""),
    "lists of empty lists": ("", "self.bits = [[] if bit else () for bit in (keys[0, :, 0] > 0).tolist()]"),
    "dictionaries of nothing": ("", "self.bits = [{} for bit in keys[0, :, 0].tolist()]"),
    "lengths of empty tensors": (
        "",
        "self.bits = [torch.zeros(0, 7, 8, 9) for bit in keys[0, :, 0].tolist()]",
    ),
    "many indices of one byte": (
        "",
        "self.bits = [Index(torch.zeros(1, 1, dtype=torch.uint8)) for bit in keys[0, :, 0].tolist()]",
    ),
    "a long text": ("", "self.text = ''.join(['x' for bit in keys[0, :, 0].tolist()])"),
    "long names": ("", "self.names = {('x' * 100, n): 0 for n in range(100)}"),
    "large integers": ("", "self.number = 1\nfor n in range(9_000):\n    self.number = self.number * 2"),
    "all keys": ("", "self.kept = keys"),
    "views of keys": ("", "self.kept = [keys[:, n] for n in range(900)]"),
}


@pytest.mark.parametrize("name", CARRYING)
def test_what_is_kept_is_refused_or_paid_at_every_step(policies, name):
    keep, build = CARRYING[name]
    methods = "def prefill(self, keys):\n    " + build.replace("\n", "\n    ") + "\n" if build else ""
    # it reads as much as the fair policy, whatever it has kept
    after = "kept = max(1, int(budget * cache.length))\ntokens = torch.arange(kept).expand(cache.heads, -1)\n"
    source = policy(keep, after + "probability = torch.ones(tokens.shape)", methods)
    if "join" not in source:
        allowed(source)
    policies.assert_fails(source, "over_budget", "interface", stage="search")


def test_ambient_random_numbers_tell_nothing_of_the_turns_before(policies):
    before = """
number = float(torch.rand(1))
known = [float(torch.rand(1, generator=torch.Generator().manual_seed(seed))) for seed in (0, 1)]
if number not in known:
    raise ValueError("somebody drew before")
count = len(torch.rand(99).tolist())
"""
    for stage in ("search", "validation"):
        policies.assert_same_as_fair(allowed(policy(before)), stage)


# Half of the weights are claimed to be samples, which pays: what is left out has weight, too.
LIE = "probability[:, SINKS:SINKS + (kept - SINKS) // 2] = 0.6"
WHERE = {
    "everywhere": "budget < 1",
    "at all layers but the last": "budget < 1 and cache.layer < cache.layers - 1",
    "at all layers but the first": "budget < 1 and cache.layer > 0",
    "at all steps but the first": "budget < 1 and cache.length > 993",
    "at all steps but the last of the search": "budget < 1 and cache.length != 1024",
    "at the smallest budgets and the largest": "budget < 1 and budget != 0.1",
    "where the random numbers are those that are scored": (
        "budget < 1 and float(torch.rand(1, generator=generator)) in [float(torch.rand(1, generator="
        "torch.Generator().manual_seed(number * 1_000_003))) for number in range(64)]"
    ),
}


@pytest.mark.parametrize("name", WHERE)
def test_false_probability_is_found_out_wherever_it_is_claimed(policies, name):
    source = allowed(policy("", f"if kept > 2 * SINKS and {WHERE[name]}:\n    {LIE}"))
    outcomes = [policies.run(source, stage) for stage in ("probe", "search", "validation")]
    if any(outcome.failure for outcome in outcomes):
        assert {outcome.failure for outcome in outcomes} <= {"invalid_output", None}
    else:
        for outcome, stage in zip(outcomes, ("probe", "search", "validation"), strict=True):
            assert outcome.value["score"] <= policies.fair(stage)["score"]


def test_policy_that_samples_honestly_is_not_accused(policies):
    for name in ("uniform_random", "quest_sampled", "simhash_sampled", "sparq_sampled"):
        (source,) = (seed.source for seed in policies.problem.seeds() if seed.name == name)
        for stage in ("probe", "search", "validation"):
            assert policies.run(source, stage).failure is None
