"""Crossover: constants, functions, assignments or the whole policy of a second parent."""

from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.borrow import borrowed
from evolve.builtin.selects import select_of
from evolve.builtin.syntax import (
    code,
    constants,
    definitions,
    methods,
    names_in,
    parameters,
    policy,
    renamed,
    replaced,
    sites,
    written_by,
)

if TYPE_CHECKING:
    from numpy.random import Generator


def crossover(module: cst.Module, others: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Takes constants, a function or method, an assignment or the whole policy from a second parent."""
    if not others:
        return None
    ways = (_constants, _definition, _assignment, _policy)
    order = random.permutation(len(ways))
    for way in order:
        crossed = ways[way](module, others[0], random)
        if crossed is not None:
            return crossed
    return None


def _constants(module: cst.Module, donor: cst.Module, random: "Generator") -> cst.Module | None:
    """Values of same-named constants."""
    ours, theirs = constants(module), constants(donor)
    shared = [name for name in ours if name in theirs and code(ours[name]) != code(theirs[name])]
    chosen = [name for name in shared if random.random() < 0.7] or shared
    return replaced(module, {ours[name].value: theirs[name].value for name in chosen}) if chosen else None


def _definition(module: cst.Module, donor: cst.Module, random: "Generator") -> cst.Module | None:
    """A same-named function, or a method that finds on `self` what it reads there."""
    ours = {name: node for name, node in definitions(module).items() if isinstance(node, cst.FunctionDef)}
    theirs = {name: node for name, node in definitions(donor).items() if isinstance(node, cst.FunctionDef)}
    pairs = [(ours[name], theirs[name]) for name in ours if name in theirs]
    own_methods, their_methods = methods(module), methods(donor)
    pairs += [
        (own_methods[name], their_methods[name])
        for name in own_methods
        if name in their_methods and state(their_methods[name]) <= state(policy(module))
    ]
    pairs = [
        (own, their)
        for own, their in pairs
        if code(own) != code(their) and parameters(own) == parameters(their)
    ]
    if not pairs:
        return None
    own, their = pairs[random.integers(len(pairs))]
    changed, names = borrowed(module, donor, [their])
    new = renamed(their, {old: now for old, now in names.items() if old != their.name.value})
    return replaced(changed, {own: new.with_changes(leading_lines=own.leading_lines)})


def _assignment(module: cst.Module, donor: cst.Module, random: "Generator") -> cst.Module | None:
    """The right-hand side of an assignment to the same local variable of `select`."""
    own, their = select_of(module), select_of(donor)
    if own is None or their is None:
        return None
    known = set(parameters(own[0])) | {
        "torch",
        "math",
        "Index",
        "max",
        "min",
        "int",
        "float",
        "len",
        "range",
        "abs",
    }
    known |= set(definitions(donor))
    pairs = []
    for line in own[1].body:
        for candidate in their[1].body:
            mine, theirs = _assigned(line), _assigned(candidate)
            same = mine and theirs and code(mine.targets[0]) == code(theirs.targets[0])
            if same and mine and theirs and code(mine) != code(theirs) and names_in(theirs.value) <= known:
                pairs.append((mine, theirs))
        known |= written_by(line)
    pairs = [(mine, theirs) for mine, theirs in pairs if state(theirs) <= state(policy(module))]
    if not pairs:
        return None
    mine, theirs = pairs[random.integers(len(pairs))]
    changed, names = borrowed(module, donor, [theirs.value])
    return replaced(changed, {mine.value: renamed(theirs.value, names)})


def _policy(module: cst.Module, donor: cst.Module, random: "Generator") -> cst.Module | None:
    """The whole policy of the second parent, with the constants and the layer shares of the first."""
    own, their = policy(module), policy(donor)
    if own is None or their is None:
        return None
    shares = methods(module).get("layer_shares")
    body = list(their.body.body)
    if shares is not None:
        body = [node for node in body if node is not methods(donor).get("layer_shares")] + [shares]
    changed, names = borrowed(module, donor, body)
    kept = renamed(their.with_changes(body=their.body.with_changes(body=body)), names)
    return replaced(changed, {own: kept.with_changes(leading_lines=own.leading_lines)})


def _assigned(line: cst.CSTNode) -> cst.Assign | None:
    if isinstance(line, cst.SimpleStatementLine) and isinstance(line.body[0], cst.Assign):
        return line.body[0]
    return None


def state(node: cst.CSTNode | None) -> set[str]:
    """Attributes of `self` that a part of a program uses."""
    return {
        site.node.attr.value
        for site in (sites(node) if node is not None else ())
        if isinstance(site.node, cst.Attribute)
        and isinstance(site.node.value, cst.Name)
        and site.node.value.value == "self"
    }
