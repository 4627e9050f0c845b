"""Composition of selections: the union of two policies, a choice per head, and reuse from step to step."""

from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.selects import select_of
from evolve.builtin.switch import SHARES, joined_policies
from evolve.builtin.syntax import (
    code,
    fresh,
    methods,
    names_in,
    policy,
    replaced,
    sites,
    statement,
    with_constant,
    with_definitions,
)

if TYPE_CHECKING:
    from numpy.random import Generator

# What is selected for certain stays certain, whatever else would have drawn it: probabilities stay exact.
JOINED = '''\
def {name}(certain, drawn, likely, length):
    """A certain selection and what another one adds to it: tokens and probabilities."""
    places = torch.where(certain >= 0, certain, length)
    taken = torch.zeros(certain.shape[0], length + 1).scatter(1, places.long(), 1.0)
    new = (drawn >= 0) & (taken.gather(1, drawn.clamp(min=0).long()) == 0)
    tokens = torch.cat([certain, torch.where(new, drawn, -1)], 1)
    return tokens, torch.cat([torch.ones(certain.shape), likely], 1)
'''
UNION = """\
def select(self, query, cache, budget, generator):
    if cache.affordable(budget) >= cache.length:
        return self.{first}(query, cache, budget, generator)
    certain, _ = self.{first}(query, cache, budget * {share}, generator)
    rest = budget - certain.shape[1] / cache.length
    if cache.affordable(rest) < {fewest}:
        return certain, torch.ones(certain.shape)
    drawn, likely = self.{second}(query, cache, rest, generator)
    return {joined}(certain, drawn, likely, cache.length)
"""
# A group of heads is served by one of the two: the tokens of the other cost it nothing.
HEADS = """\
def select(self, query, cache, budget, generator):
    if cache.affordable(budget) >= cache.length or cache.affordable(budget * {share}) < {fewest}:
        return self.{first}(query, cache, budget, generator)
    one, sure = self.{first}(query, cache, budget * {share}, generator)
    if cache.affordable(budget) < {fewest}:
        return one, sure
    other, likely = self.{second}(query, cache, budget, generator)
    wide = max(one.shape[1], other.shape[1])
    one = torch.cat([one, torch.full((cache.heads, wide - one.shape[1]), -1)], 1)
    other = torch.cat([other, torch.full((cache.heads, wide - other.shape[1]), -1)], 1)
    sure = torch.cat([sure, torch.ones(cache.heads, wide - sure.shape[1])], 1)
    likely = torch.cat([likely, torch.ones(cache.heads, wide - likely.shape[1])], 1)
    long = query.norm(dim=-1).view(cache.kv_heads, -1).mean(1)
    chosen = (long > {limit} * long.mean()).repeat_interleave(cache.heads // cache.kv_heads)[:, None]
    return torch.where(chosen, one, other), torch.where(chosen, sure, likely)
"""
# A step that reuses reads no index; what it saves, the steps that select anew may spend.
REUSED = """\
def select(self, query, cache, budget, generator):
    if cache.affordable(budget) >= cache.length:
        return self.{first}(query, cache, budget, generator)
    since = self.{age} % {every}
    self.{age} += 1
    if since == 0 or cache.affordable(budget) <= {every}:
        tokens, probability = self.{first}(query, cache, min(0.99, budget * {boost}), generator)
        self.{kept} = tokens[:: cache.heads // cache.kv_heads, : cache.affordable(budget)].int()
        return tokens, probability
    newest = torch.arange(cache.length - since, cache.length)
    tokens = torch.cat([self.{kept}, newest.expand(cache.kv_heads, -1).int()], 1)
    tokens = tokens[:, -max(since, cache.affordable(budget)) :]
    old = tokens[:, :-since]
    old = torch.where(old >= newest[0], -1, old)
    tokens = torch.cat([old, tokens[:, -since:]], 1)
    tokens = tokens.repeat_interleave(cache.heads // cache.kv_heads, 0)
    return tokens, torch.ones(tokens.shape)
"""
FEWEST = 4  # tokens for which a second selection is worth its trouble


def is_certain(module: cst.Module) -> bool:
    """Whether every selection of a policy is certain: its probabilities are all written as `torch.ones`."""
    select = select_of(module)
    if select is None:
        return False
    ends = [site.node.value for site in sites(select[0]) if isinstance(site.node, cst.Return)]
    return all(
        isinstance(end, cst.Tuple) and code(end.elements[1].value).startswith("torch.ones(") for end in ends
    )


def unite(module: cst.Module, others: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Selects what either of two policies selects, one for certain, and each with a part of the budget."""
    if not others or not (is_certain(module) or is_certain(others[0])):
        return None
    first, second = (module, others[0]) if is_certain(module) else (others[0], module)
    joined = _two(first, second, random)
    if joined is None:
        return None
    changed, names = joined
    changed, share = with_constant(changed, "FIRST_PART", f"{random.uniform(0.2, 0.8):.2f}")
    helper = fresh("joined", names_in(changed))
    changed = with_definitions(changed, [statement(JOINED.format(name=helper))])
    return _with_select(changed, UNION, **names, share=share, fewest=str(FEWEST), joined=helper)


def choose_by_head(
    module: cst.Module, others: tuple[cst.Module, ...], random: "Generator"
) -> cst.Module | None:
    """Lets one of two policies select for heads with long queries, the other for all others."""
    joined = _two(module, others[0], random) if others else None
    if joined is None:
        return None
    changed, names = joined
    changed, share = with_constant(changed, "EACH_PART", f"{random.uniform(0.5, 0.9):.2f}")
    changed, limit = with_constant(changed, "LONG_SCALE", f"{random.uniform(0.8, 1.2):.2f}")
    return _with_select(changed, HEADS, **names, share=share, limit=limit, fewest=str(FEWEST))


def reuse(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Selects anew at every second or third step only, and keeps the selection, with what is new, between."""
    owner = policy(module)
    if owner is None or not is_certain(module) or "select" not in methods(module):
        return None
    first = fresh("select_anew", [*methods(module), *names_in(module)])
    kept, age = fresh("kept_tokens", _attributes(module)), fresh("age", _attributes(module))
    changed, every = with_constant(module, "REUSE_STEPS", str(int(random.integers(2, 4))))
    changed, boost = with_constant(changed, "ANEW_SCALE", f"{random.uniform(0.8, 1.1):.2f}")
    changed = _select_called(changed, first)
    changed = _begun(changed, [f"self.{age} = 0\n", f"self.{kept} = None\n"])
    return _with_select(changed, REUSED, first=first, every=every, boost=boost, kept=kept, age=age)


def _attributes(module: cst.Module) -> list[str]:
    return [site.node.attr.value for site in sites(module) if isinstance(site.node, cst.Attribute)]


def _two(
    module: cst.Module, donor: cst.Module, random: "Generator"
) -> tuple[cst.Module, dict[str, str]] | None:
    """A program that has the selections of both policies as two methods, and what these are called."""
    joined = joined_policies(module, donor, SHARES, random)
    if joined is None:
        return None
    changed, other = joined
    taken = [*methods(changed), *names_in(changed), *_attributes(changed)]
    first = fresh("select_first", taken)
    second = fresh("select_second", [*taken, first])
    changed = _select_called(changed, first)
    changed = _with_method(changed, other.with_changes(name=cst.Name(second), leading_lines=[_EMPTY]))
    return changed, {"first": first, "second": second}


_EMPTY = cst.EmptyLine(indent=False)


def _select_called(module: cst.Module, name: str) -> cst.Module:
    select = methods(module)["select"]
    return replaced(module, {select: select.with_changes(name=cst.Name(name))})


def _with_method(module: cst.Module, method: cst.FunctionDef) -> cst.Module:
    owner = policy(module)
    assert owner is not None
    body = [*owner.body.body, method]
    return replaced(module, {owner.body: owner.body.with_changes(body=body)})


def _with_select(module: cst.Module, text: str, **names: str) -> cst.Module:
    method = statement(text.format(**names))
    assert isinstance(method, cst.FunctionDef)
    return _with_method(module, method.with_changes(leading_lines=[_EMPTY]))


def _begun(module: cst.Module, lines: list[str]) -> cst.Module:
    """The policy with more statements at the beginning of `prefill`."""
    prefill = methods(module).get("prefill")
    new = [statement(line) for line in lines]
    if prefill is not None and isinstance(prefill.body, cst.IndentedBlock):
        return replaced(module, {prefill.body: prefill.body.with_changes(body=[*new, *prefill.body.body])})
    method = statement("def prefill(self, keys):\n    pass\n")
    assert isinstance(method, cst.FunctionDef)
    body = method.body.with_changes(body=new)
    owner = policy(module)
    assert owner is not None
    first, *rest = owner.body.body
    spaced = first.with_changes(leading_lines=[_EMPTY]) if isinstance(first, cst.FunctionDef) else first
    whole = [method.with_changes(body=body), spaced, *rest]
    return replaced(module, {owner.body: owner.body.with_changes(body=whole)})
