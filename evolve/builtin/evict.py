"""Policies of `kv_eviction`: scores are changed and combined, tokens stored and bytes shared otherwise."""

from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.borrow import borrowed
from evolve.builtin.crossover import state
from evolve.builtin.selects import evicts
from evolve.builtin.switch import MAX_LINES
from evolve.builtin.syntax import (
    code,
    fresh,
    methods,
    names_in,
    policy,
    renamed,
    replaced,
    statement,
    with_constant,
    with_definitions,
    with_import,
)

if TYPE_CHECKING:
    from numpy.random import Generator

LOW = {16: 8, 8: 4, 4: 2, 2: 2}

# What a new score makes of the one before, with the constants that it needs and their ranges. Protected
# tokens, whose score is infinite, stay protected.
CHANGES: tuple[tuple[str, dict[str, tuple[float, float]]], ...] = (
    (
        """\
    known = (layer.positions < {SINKS}) | (layer.positions >= layer.length - {NEWEST})
    return scores.masked_fill(known, torch.inf)
""",
        {"SINKS": (1, 8), "NEWEST": (4, 96)},
    ),
    (
        """\
    smooth = torch.avg_pool1d(even[:, None], 2 * {REACH} + 1, stride=1, padding={REACH})[:, 0]
    return torch.where(held, torch.inf, smooth)
""",
        {"REACH": (1, 8)},
    ),
    (
        """\
    smooth = torch.max_pool1d(even[:, None], 2 * {REACH} + 1, stride=1, padding={REACH})[:, 0]
    return torch.where(held, torch.inf, smooth)
""",
        {"REACH": (1, 8)},
    ),
    (
        """\
    whole = torch.avg_pool1d(even[:, None], {PIECE}, stride={PIECE}, ceil_mode=True)[:, 0]
    whole = whole.repeat_interleave({PIECE}, 1)[:, : even.shape[1]]
    return torch.where(held, torch.inf, whole)
""",
        {"PIECE": (2, 32)},
    ),
    (
        """\
    return torch.where(held, torch.inf, even * layer.values.norm(dim=-1) ** {POWER})
""",
        {"POWER": (0.2, 1.5)},
    ),
    (
        """\
    means = even.mean(0, keepdim=True)
    return torch.where(held, torch.inf, even + {SHARED} * (means - even))
""",
        {"SHARED": (0.2, 1.0)},
    ),
)
CHANGED = """\
def score(self, layer):
    scores = self.{before}(layer)
    held = torch.isinf(scores)
    even = scores.masked_fill(held, scores[~held].max() if bool((~held).any()) else 0.0)
"""

RANKED = '''\
def {name}(scores):
    """Ranks of the tokens of each head, from 0 to 1; protected ones stay so."""
    places = scores.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return torch.where(torch.isinf(scores), torch.inf, places / scores.shape[1])
'''
BLENDS: tuple[tuple[str, dict[str, tuple[float, float]]], ...] = (
    ("one + {WEIGHT} * other", {"WEIGHT": (0.1, 2.0)}),
    ("torch.maximum(one, other - {HANDICAP})", {"HANDICAP": (0.0, 0.4)}),
    ("torch.where(one > {LIKELY}, one + 1, other)", {"LIKELY": (0.7, 0.97)}),
    ("one if layer.index < {EARLY} * layer.layers else other", {"EARLY": (0.1, 0.9)}),
)
BLENDED = """\
def score(self, layer):
    one, other = {ranked}(self.{first}(layer)), {ranked}(self.{second}(layer))
    return {blend}
"""

SHARES: tuple[tuple[str, dict[str, tuple[float, float]]], ...] = (
    (
        "    return [[{DEPTH} ** (layer / len(scores))] * len(scores[0]) for layer in range(len(scores))]\n",
        {"DEPTH": (0.3, 3.0)},
    ),
    (
        "    first = [[{FIRST}] * len(scores[0])]\n"
        "    return (first + [[1.0] * len(scores[0])] * (len(scores) - 1))[: len(scores)]\n",
        {"FIRST": (0.4, 3.0)},
    ),
    (
        """\
    shares = []
    for layer in scores:
        best = layer.flatten().topk(max(1, int(budget * layer.numel()))).values[-1]
        counts = (layer >= best).float().mean(1)
        shares.append({EVEN} * counts.mean() + (1 - {EVEN}) * counts + 0.01)
    return torch.stack(shares)
""",
        {"EVEN": (0.1, 0.8)},
    ),
    (
        """\
    shares = []
    for layer in scores:
        heavy = torch.where(torch.isinf(layer), 0.0, layer).clamp(min=0) + 1e-9
        shares.append((heavy.sum(1) ** 2 / (heavy**2).sum(1)) ** {FLATNESS})
    return torch.stack(shares)
""",
        {"FLATNESS": (-0.5, 0.8)},
    ),
)


def rescore(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Smooths scores, joins them to pieces, weighs them with values, shares them among heads, or protects
    first and newest tokens.
    """
    score = methods(module).get("score")
    if score is None or module.code.count("\n") > MAX_LINES:
        return None
    form, ranges = CHANGES[random.integers(len(CHANGES))]
    before = fresh("score_before", set(methods(module)) | names_in(module))
    changed = replaced(module, {score: score.with_changes(name=cst.Name(before))})
    changed, names = _with_constants(with_import(changed, "torch"), ranges, random)
    return _with_method(changed, CHANGED.format(before=before) + form.format(**names))


def blend_scores(
    module: cst.Module, others: tuple[cst.Module, ...], random: "Generator"
) -> cst.Module | None:
    """Combines the scores of two policies by rank, or takes one in the early layers, the other later."""
    if not others or not evicts(module) or not evicts(others[0]):
        return None
    donor = others[0]
    theirs = [methods(donor)["score"]]
    if "observe" in methods(donor):
        if "observe" in methods(module):
            return None  # what is remembered of a token can be one of the two only
        theirs.append(methods(donor)["observe"])
    if not _alone(donor, theirs) or module.code.count("\n") + donor.code.count("\n") > MAX_LINES:
        return None
    changed, names = borrowed(module, donor, theirs, share_constants=random.random() < 0.3)
    taken = set(methods(module)) | set(methods(donor)) | names_in(changed)
    first = fresh("score_first", taken)
    second = fresh("score_second", taken | {first})
    own = methods(changed)["score"]
    changed = replaced(changed, {own: own.with_changes(name=cst.Name(first))})
    for their in theirs:
        moved = renamed(their, names)
        if their.name.value == "score":
            moved = moved.with_changes(name=cst.Name(second))
        changed = _with_method(changed, code(moved) + "\n")
    form, ranges = BLENDS[random.integers(len(BLENDS))]
    changed, given = _with_constants(with_import(changed, "torch"), ranges, random)
    ranked = fresh("ranked", names_in(changed))
    changed = with_definitions(changed, [statement(RANKED.format(name=ranked))])
    blend = form.format(**given)
    return _with_method(changed, BLENDED.format(ranked=ranked, first=first, second=second, blend=blend))


def graft(module: cst.Module, others: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Takes from a second parent how tokens are stored, how bytes are shared, or what is merged."""
    if not others or not evicts(module) or not evicts(others[0]):
        return None
    donor = others[0]
    groups = [("format", "channels"), ("allocate",), ("merge", "format")]
    for number in random.permutation(len(groups)):
        theirs = [methods(donor)[name] for name in groups[number] if name in methods(donor)]
        wanted = groups[number][0]
        if wanted not in methods(donor) or not _alone(donor, theirs):
            continue
        if not set().union(*map(state, theirs)) <= state(policy(module)):
            continue  # what it reads on `self` nobody writes here
        ours = methods(module)
        known = {name: code(method) for name, method in ours.items()}
        if all(known.get(their.name.value) == code(their) for their in theirs):
            continue
        changed, names = borrowed(module, donor, theirs, share_constants=random.random() < 0.3)
        for their in theirs:
            changed = _with_method(changed, code(renamed(their, names)) + "\n")
        if "format" in groups[number] and not _counts_alike(changed):
            continue
        return changed
    return None


def store(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Stores tokens with fewer bits: all alike, or those with high scores with more than the others."""
    if not evicts(module):
        return None
    before = methods(module).get("format")
    bits = int(random.choice((2, 4, 4, 8, 16)))
    pair = bits, bits if random.random() < 0.6 else LOW[bits]
    tiers = f"[(1.0, {pair[0]}, {pair[1]})]"
    changed = module
    if random.random() < 0.6:
        changed, best = with_constant(changed, "BEST", f"{random.uniform(0.05, 0.7):.2f}")
        high = 2 * min(8, pair[0])
        tiers = f"[({best}, {high}, {high}), (1.0 - {best}, {pair[0]}, {pair[1]})]"
    extra = ""
    if random.random() < 0.25:
        extra += f", 'rank': {random.integers(1, 5)}"
    if random.random() < 0.25:
        extra += f", 'outliers': {random.uniform(0.01, 0.06):.2f}"
    if before is not None and "counts" in code(before):
        extra += ", 'counts': True"
    body = f"    return {{'tiers': {tiers}{extra}}}\n"
    if before is None and random.random() < 0.3:
        changed, low = with_constant(changed, "SCARCE", f"{random.choice((0.15, 0.2)):.2f}")
        body = f"    if budget > {low}:\n        return {{'tiers': [(1.0, 4, 4)]}}\n" + body
    return _with_method(changed, "def format(self, layer, budget):\n" + body.replace("'", '"'))


def share_bytes(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Shares the bytes among layers and heads: by depth, or by how many tokens matter in each."""
    if not evicts(module):
        return None
    form, ranges = SHARES[random.integers(len(SHARES))]
    changed, names = _with_constants(with_import(module, "torch"), ranges, random)
    return _with_method(changed, "def allocate(self, scores, budget):\n" + form.format(**names))


def _alone(donor: cst.Module, theirs: list[cst.FunctionDef]) -> bool:
    """Whether methods call no other method of their policy."""
    called = set().union(*map(state, theirs)) & set(methods(donor))
    return not called - {method.name.value for method in theirs}


def _counts_alike(module: cst.Module) -> bool:
    """Whether a policy that promises counts has a merge that gives them."""
    form = methods(module).get("format")
    return form is None or "counts" not in code(form) or "merge" in methods(module)


def _with_constants(
    module: cst.Module, ranges: dict[str, tuple[float, float]], random: "Generator"
) -> tuple[cst.Module, dict[str, str]]:
    """New constants, drawn from their ranges: the module, and the names that they got."""
    names = {}
    for wanted, (low, high) in ranges.items():
        value = f"{random.uniform(low, high):.2f}"
        if isinstance(low, int):
            value = str(random.integers(int(low), int(high) + 1))
        module, names[wanted] = with_constant(module, wanted, value)
    return module, names


def _with_method(module: cst.Module, text: str) -> cst.Module:
    """The policy with a method, in place of the one of the same name if there is one."""
    new = statement(text)
    assert isinstance(new, cst.FunctionDef)
    owner, method = policy(module), methods(module).get(new.name.value)
    assert owner is not None
    if method is not None:
        return replaced(module, {method: new.with_changes(leading_lines=method.leading_lines)})
    body = [*owner.body.body, new.with_changes(leading_lines=[cst.EmptyLine(indent=False)])]
    return replaced(module, {owner.body: owner.body.with_changes(body=body)})
