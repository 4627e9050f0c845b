"""Composition of two policies: one for some cases, one for the others."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.borrow import borrowed
from evolve.builtin.crossover import state
from evolve.builtin.selects import asked_of, selection_of
from evolve.builtin.syntax import (
    Statement,
    block_of,
    code,
    fresh,
    methods,
    parameters,
    policy,
    renamed,
    replaced,
    sites,
    statement,
    with_constant,
    written_by,
)

if TYPE_CHECKING:
    from numpy.random import Generator

MAX_LINES = 250
SHARES = 0.3  # probability that two policies share the constants of the same name
# Methods that both policies need, with their parameters in any interface: both bodies are run, one after the
# other.
SHARED = {
    "calibrate": (("learnt",),),
    "prefill": (("keys",),),
    "observe": (("queries", "positions", "keys"), ("block", "budget")),
    "append": (("keys",),),
}
INTERFACE = (*SHARED, "select", "layer_shares")
LOWEST, HIGHEST = 0.01, 0.5  # of the budget, or of epsilon, at which one policy takes over from the other


def switch(module: cst.Module, others: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Lets a second parent select where the budget (or epsilon) is small, or in the first layers."""
    joined = joined_policies(module, others[0], SHARES, random) if others else None
    if joined is None:
        return None
    changed, their_select = joined
    select = selection_of(module)
    assert select is not None
    if random.random() < 0.7:
        value = LOWEST * (HIGHEST / LOWEST) ** random.random()
        asked, wanted = asked_of(module)
        changed, name = with_constant(changed, wanted, f"{value:.3f}")
        condition = f"{asked} < {name}"
    else:
        changed, name = with_constant(changed, "FIRST_LAYERS", "1")
        condition = f"{select[2]}.layer < {name}"
    return dispatched(changed, their_select, condition)


def joined_policies(
    module: cst.Module, donor: cst.Module, shares: float, random: "Generator"
) -> tuple[cst.Module, cst.FunctionDef] | None:
    """A policy that builds and extends what both need, with the `select` of the second one for it; None where
    that cannot be, or would be too long. Constants of the same name become one with probability `shares`.
    """
    if not can_be_joined(module, donor):
        return None
    owner = policy(donor)
    assert owner is not None
    changed, names = borrowed(module, donor, [owner], share_constants=random.random() < shares)
    theirs = {name: renamed(method, names) for name, method in methods(donor).items()}
    if not _same_state(module, donor, names):
        clash = state(policy(module)) & state(owner)
        taken = state(policy(module)) | state(owner)
        theirs = {
            name: with_state(method, {old: fresh(old, taken) for old in clash})
            for name, method in theirs.items()
        }
        changed = _joined_state(changed, theirs)
    return changed, theirs["select"]


def can_be_joined(module: cst.Module, donor: cst.Module) -> bool:
    """Whether `joined_policies` joins two policies."""
    short = module.code.count("\n") + donor.code.count("\n") <= MAX_LINES
    return short and _joinable(module) and _joinable(donor)


def _joinable(module: cst.Module) -> bool:
    """Whether `select` always returns at its end, and no other method stands in the way of joining."""
    select = selection_of(module)
    if select is None or not set(methods(module)) <= set(INTERFACE):
        return False
    last = select[1].body[-1]
    if not (isinstance(last, cst.SimpleStatementLine) and isinstance(last.body[-1], cst.Return)):
        return False
    for name, wanted in SHARED.items():
        method = methods(module).get(name)
        if method is None:
            continue
        block = block_of(method)
        returns = any(isinstance(site.node, cst.Return) for site in sites(method))
        rebound = written_by(method) & set(parameters(method))
        if block is None or returns or rebound or parameters(method)[1:] not in wanted:
            return False
    return True


def _same_state(module: cst.Module, donor: cst.Module, names: dict[str, str]) -> bool:
    """Whether both keep the same index, so that one serves both."""
    ours = [code(methods(module)[name]) for name in SHARED if name in methods(module)]
    theirs = [code(renamed(methods(donor)[name], names)) for name in SHARED if name in methods(donor)]
    return ours == theirs


def with_state(method: cst.FunctionDef, names: dict[str, str]) -> cst.FunctionDef:
    """`method` with attributes of `self` renamed."""
    return replaced(
        method,
        {
            site.node.attr: cst.Name(names[site.node.attr.value])
            for site in sites(method)
            if isinstance(site.node, cst.Attribute)
            and isinstance(site.node.value, cst.Name)
            and site.node.value.value == "self"
            and site.node.attr.value in names
        },
    )


def _joined_state(module: cst.Module, theirs: dict[str, cst.FunctionDef]) -> cst.Module:
    """Both indexes are built and extended."""
    for name in SHARED:
        own, their = methods(module).get(name), theirs.get(name)
        if their is None:
            continue
        if own is None:
            owner = policy(module)
            assert owner is not None
            body = [their.with_changes(leading_lines=[]), *_spaced(owner.body.body)]
            module = replaced(module, {owner.body: owner.body.with_changes(body=body)})
        else:
            block, more = block_of(own), block_of(their)
            assert block is not None
            assert more is not None
            module = replaced(module, {block: block.with_changes(body=[*block.body, *more.body])})
    return module


def _spaced(body: Iterable[cst.CSTNode]) -> list[cst.CSTNode]:
    first, *rest = body
    if isinstance(first, cst.FunctionDef):
        first = first.with_changes(leading_lines=[cst.EmptyLine(indent=False)])
    return [first, *rest]


def dispatched(module: cst.Module, other: cst.FunctionDef, condition: str) -> cst.Module | None:
    """`select` that runs the body of `other` where `condition` holds."""
    own, block = selection_of(module), block_of(other)
    if own is None or block is None:
        return None
    branch = statement(f"if {condition}:\n    pass\n")
    assert isinstance(branch, cst.If)
    branch = branch.with_changes(body=branch.body.with_changes(body=block.body))
    body: list[cst.BaseStatement | Statement] = [branch, *own[1].body]
    return replaced(module, {own[1]: own[1].with_changes(body=body)})
