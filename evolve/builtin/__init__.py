"""The built-in proposer: changes the syntax trees of candidates, without a network and without a model."""

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.borrow import without_unused
from evolve.builtin.operators import OPERATORS, Operator
from evolve.builtin.syntax import parse
from evolve.builtin.tune import tune
from evolve.proposer import Draft, Parent, Request

if TYPE_CHECKING:
    from numpy.random import Generator

TRIES = 12
FALLBACK_TRIES = 20
SECOND = 0.3  # probability that another operator is applied on top


class BuiltinProposer:
    """Draws operators until a new, valid program comes out that the screen lets pass."""

    def __init__(self, is_clean: Callable[[str], bool], operators: tuple[Operator, ...] = OPERATORS) -> None:
        """`is_clean` tells whether the screen accepts a source."""
        self.is_clean = is_clean
        self.operators = operators

    async def propose(self, request: Request, random: "Generator") -> Draft:
        """A changed `request.parents[0]`; the same request and random state give the same draft.

        Where no operator comes through, the draft is the parent itself, with the operator `none`.
        """
        first, *others = request.parents
        for _ in range(TRIES):
            names, module, parents = self._changed(first, others, random)
            if names and self._is_new(source := module.code, request.parents):
                return Draft("+".join(names), tuple(dict.fromkeys(parents)), source)
        for _ in range(FALLBACK_TRIES):
            tuned = tune(parse(first.source), (), random)
            if tuned is not None and self._is_new(source := tuned.code, request.parents):
                return Draft("tune", (first.hash,), source)
        return Draft("none", (first.hash,), first.source)

    async def close(self) -> None:
        """Nothing: it holds no connection."""

    def _changed(
        self, first: Parent, others: list[Parent], random: "Generator"
    ) -> tuple[list[str], cst.Module, list[str]]:
        """One or two operators in a row: their names, the result, and the hashes of what went into it."""
        module, names, parents = parse(first.source), list[str](), [first.hash]
        for _ in range(2 if random.random() < SECOND else 1):
            operator = self._drawn(random)
            other = others[random.integers(len(others))] if operator.crosses and others else None
            changed = operator.apply(module, (parse(other.source),) if other else (), random)
            if changed is None:
                continue
            module = changed
            names.append(operator.name)
            if other:
                parents.append(other.hash)
        return names, without_unused(module) if names else module, parents

    def _drawn(self, random: "Generator") -> Operator:
        place = random.random() * sum(operator.weight for operator in self.operators)
        for operator in self.operators:
            place -= operator.weight
            if place < 0:
                return operator
        return self.operators[-1]

    def _is_new(self, source: str, parents: tuple[Parent, ...]) -> bool:
        if any(source == parent.source for parent in parents):
            return False
        try:
            ast.parse(source)
        except SyntaxError:
            return False
        return self.is_clean(source)
