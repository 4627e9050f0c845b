"""Policies that want a better figure than they deserve, with all that Python can do: no screen has seen them.

Validation is the stage that chooses a champion. There each process plays a single step at a single budget.
"""

# ruff: noqa: E501  (candidates stand on one line where that is the shortest)

import pytest
from policies import FREE, policy

# Patches of the policy language, which runs beside the policy. What is read is counted elsewhere.
PATCHES = {
    "reads cost nothing": "setattr(language.Link, 'spent_bytes', BUILTINS['property'](lambda s: 0, lambda s, v: None))",
    "everything is affordable": "language.Cache.affordable = lambda self, budget: self.length",
    "twice as much is affordable": "language.Cache.affordable = lambda self, budget: min(self.length, int(budget * self.length * 2))",
    "the budget is a hundred percent": "language.dense_bytes = lambda *a: 1 << 40",
    "all is over in the first turn": "language.Link.begin = lambda *a: None",
    "every question is of the same turn": "language.Link.turn = BUILTINS['property'](lambda s: 0, lambda s, v: None)",
    "the state is empty": "sys.modules['evaluators.token_selection.actor'].pack = lambda *a: {}",
    "selections are not checked": "sys.modules['evaluators.token_selection.actor']._checked = lambda i, p, c: (i, p)",
    "an oracle sees all for free": "ORACLE = True",
    "the actor's own oracle": "sys.modules['evaluators.token_selection.actor'].ORACLE = True",
}
GREEDY = """
everything = torch.arange(cache.length).expand(cache.kv_heads, -1)
best = cache.scores(query, everything).topk(max(1, kept), 1).indices
tokens, probability = best, torch.ones(best.shape)
"""


@pytest.mark.parametrize("name", PATCHES)
@pytest.mark.parametrize("after", ["", GREEDY], ids=["fair", "greedy"])
def test_patched_language_buys_nothing(policies, name, after):
    policies.assert_unpaid(policy(prelude=f"{FREE}\n{PATCHES[name]}\n", after=after))


# Places where a process might leave the keys that it saw for the processes that select. Each is a pair: how it
# is written, and how it is read.
PLACES = {
    "a global": ("MEMO[shape] = keys", "MEMO.get(shape)"),
    "a class": ("Policy.memo = keys", "getattr(Policy, 'memo', None)"),
    "a default argument": ("remember(keys)", "remember()"),
    "the torch module": ("torch.memo = keys", "getattr(torch, 'memo', None)"),
    "the numpy module": ("np.memo = keys", "getattr(np, 'memo', None)"),
    "the policy language": ("language.Cache.memo = keys", "getattr(language.Cache, 'memo', None)"),
    "the list of modules": ("sys.modules['memo'] = keys", "sys.modules.get('memo')"),
    "the environment": (
        "os.environ['MEMO'] = str(keys.flatten()[:9].tolist())",
        "torch.ones(3, 992, 64) if 'MEMO' in os.environ else None",
    ),
    "random numbers": (
        "torch.default_generator.manual_seed(7)",
        "torch.ones(3, 992, 64) if torch.default_generator.initial_seed() == 7 else None",
    ),
}
REMEMBERING = "\nMEMO = {}\nkept_by_default = []\ndef remember(keys=None, memo=kept_by_default):\n    if keys is not None: memo.append(keys)\n    return memo[-1] if memo else None\nstr = BUILTINS['str']\n"
# It tells what it found: a policy that plays otherwise wherever it remembers anything would not play as the fair.
USING = "\nif {read} is not None:\n    raise ValueError('remembered')\n"


@pytest.mark.parametrize("name", PLACES)
def test_keys_seen_in_one_process_are_unknown_in_the_next(policies, name):
    write, read = PLACES[name]
    prefill = f"def prefill(self, keys):\n    shape = keys.shape[0]\n    {write}\n"
    before = "shape = cache.kv_heads" + USING.format(read=read)
    policies.assert_same_as_fair(policy(before, "", prefill, FREE + REMEMBERING), "validation")


@pytest.mark.parametrize("name", ["a global", "a class", "a default argument", "the torch module"])
@pytest.mark.parametrize("stage", ["search", "validation"])
def test_one_step_of_a_layer_leaves_nothing_for_the_next(policies, name, stage):
    write, read = PLACES[name]
    before = f"shape = (cache.layer, budget)\nkeys = (cache.layer, budget, cache.length)\nfound = {read}\n"
    before += "if found is not None and found[:2] == shape and found[2] != cache.length:\n    raise ValueError('remembered')\n"
    policies.assert_same_as_fair(policy(before + write, "", "", FREE + REMEMBERING), stage)


@pytest.mark.parametrize("name", ["a global", "a class", "a default argument", "the torch module"])
def test_one_budget_leaves_nothing_for_another_where_champions_are_chosen(policies, name):
    write, read = PLACES[name]
    before = f"shape = cache.layer\nkeys = (cache.layer, budget)\nfound = {read}\n"
    before += "if found is not None and found[0] == shape:\n    raise ValueError('remembered')\n"
    policies.assert_same_as_fair(policy(before + write, "", "", FREE + REMEMBERING), "validation")


@pytest.mark.parametrize("name", ["a global", "a class", "the numpy module"])
def test_memory_that_only_a_single_process_has_is_found_out_in_the_probe(policies, name):
    write, read = PLACES[name]
    prefill = f"def prefill(self, keys):\n    shape = keys.shape[0]\n    {write}\n"
    after = f"shape = cache.kv_heads\nif budget < 1 and {read} is not None:\n    tokens = tokens.flip(1)[:, :5]\n    probability = probability[:, :5]"
    policies.assert_fails(policy("", after, prefill, FREE + REMEMBERING), "nondeterministic", stage="probe")


SEARCHES = {
    "all objects": "found = gc.get_objects()",
    "the frames above": "found = []\nframe = sys._getframe()\nwhile frame:\n    found += list(frame.f_locals.values())\n    frame = frame.f_back",
    "what refers to the cache": "found = gc.get_referrers(cache) + gc.get_referrers(cache._link)",
    "what the link holds": "found = list(BUILTINS['vars'](cache._link).values()) + list(cache._link._ask.__closure__ or ())",
    "all modules": "found = [v for m in list(sys.modules.values()) for v in list(getattr(m, '__dict__', {}).values())]",
}


@pytest.mark.parametrize("name", SEARCHES)
def test_keys_are_nowhere_in_a_process_that_selects(policies, name):
    before = f"""
{SEARCHES[name]}
for item in found:
    if isinstance(item, dict):
        found.extend(v for v in list(item.values()) if isinstance(v, (torch.Tensor, np.ndarray)))
    if isinstance(item, (torch.Tensor, np.ndarray)) and len(item.shape) == 3 and item.shape[1] > 900:
        raise ValueError('keys of ' + BUILTINS['str'](item.shape))
"""
    policies.assert_same_as_fair(policy(before, prelude=FREE))


def test_recordings_are_not_inside_the_wall(policies):
    before = """
if not SEEN:
    SEEN.append(1)
    for root in {p for p in sys.path if os.path.isdir(p) and 'site-packages' not in p and '/lib/python' not in p}:
        for folder, _, names in os.walk(root):
            if any(n.endswith('.safetensors') for n in names):
                raise ValueError(folder)
    if 'recordings' in BUILTINS['open']('/proc/self/maps').read():
        raise ValueError('mapped')
"""
    policies.assert_same_as_fair(policy(before, prelude=FREE + "\nSEEN = []\n"))


MUTATIONS = {
    "the query": "query.zero_()",
    "the query's memory": "imported('ctypes').memset(query.data_ptr(), 0, query.numel() * 4)",
    "the cache's length": "cache.length = 10",
    "the number of its layer": "cache.layer = 0",
    "the generator": "generator.manual_seed(1)",
    "the turn": "cache._link.turn = 0",
    "what was spent": "cache._link.spent_bytes = -(1 << 40)",
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_changed_inputs_change_no_judgement(policies, name):
    policies.assert_unpaid(policy(MUTATIONS[name], GREEDY if "spent" in name else "", prelude=FREE))


def test_keys_that_a_policy_changes_are_its_own(policies):
    methods = "def prefill(self, keys):\n    keys.zero_()\n\ndef append(self, keys):\n    keys.zero_()\n"
    policies.assert_same_as_fair(policy(methods=methods))


def test_outputs_cached_by_the_identity_of_their_inputs_are_never_found(policies):
    before = "key = (query.data_ptr(), id(query), id(cache))\nif key in SEEN and SEEN[key] is not query:\n    raise ValueError\nSEEN[key] = query\n"
    before += "if float(query.sum()) in SUMS:\n    return SUMS[float(query.sum())]\n"
    after = "if cache.layer < 0:\n    SUMS[float(query.sum())] = tokens"
    prelude = FREE + "\nSEEN, SUMS = {}, {}\nid = BUILTINS['id']\n"
    policies.assert_same_as_fair(policy(before, after, "", prelude), "validation")


def test_policy_that_is_fair_in_the_probe_only_fails_where_it_is_not(policies):
    source = policy("", f"if cache.length > 994:\n    {GREEDY.strip().replace(chr(10), chr(10) + '    ')}")
    assert policies.run(source, "probe").failure is None
    policies.assert_fails(source, "over_budget", stage="search")


CLOCKS = "time = imported('time')\nfor name in ('time', 'monotonic', 'perf_counter'):\n    setattr(time, name, lambda: 0.0)\n"


def test_patched_clock_neither_helps_nor_harms(policies):
    policies.assert_same_as_fair(policy(prelude=FREE + CLOCKS))


PROBABILITIES = {
    "NaN": "float('nan')",
    "infinite": "float('inf')",
    "more than one": "1.0000001",
    "huge": "3e38",
    "zero": "0.0",
    "negative zero": "-0.0",
    "negative": "-1.0",
}


@pytest.mark.parametrize("name", PROBABILITIES)
@pytest.mark.parametrize("stage", ["probe", "search", "validation"])
def test_probability_that_is_none_has_no_score(policies, name, stage):
    after = f"if cache.layer == 0 and budget < 0.1:\n    probability[:, 0] = {PROBABILITIES[name]}"
    policies.assert_fails(policy("", after), "invalid_output", stage=stage)


@pytest.mark.parametrize("claimed", [1e-45, 1e-38, 0.5])
@pytest.mark.parametrize("stage", ["search", "validation"])  # those that earn a score
def test_probability_below_one_of_what_is_always_read_has_no_score(policies, claimed, stage):
    after = f"if budget < 1:\n    probability[:, SINKS:] = {claimed}"
    policies.assert_fails(policy("", after), "invalid_output", stage=stage)
