"""A changed program: operators are tried until one gives a new program that the screen lets pass."""

import ast
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.borrow import without_unused
from evolve.builtin.operators import OPERATORS, Operator
from evolve.builtin.syntax import parse
from evolve.builtin.vary import vary
from evolve.proposer import Draft, Parent
from evolve.simpler import SIMPLIFY

if TYPE_CHECKING:
    from numpy.random import Generator

TRIES = 12
FALLBACK_TRIES = 20
SECOND = 0.25  # probability that another operator is applied on top


class Drafting:
    """Applies operators to parents."""

    def __init__(
        self,
        is_clean: Callable[[str], bool],
        operators: tuple[Operator, ...] = OPERATORS,
        packages: Sequence[str] = (),
    ) -> None:
        """`is_clean` tells whether the screen accepts a source; `packages` may be imported besides."""
        self.is_clean = is_clean
        self.operators = tuple(one for one in operators if not one.needs or one.needs in packages)

    def draft(self, parents: Sequence[Parent], random: "Generator", wanted: str = "") -> Draft:
        """A changed `parents[0]` by the operator `wanted` or, where it finds nothing to do, by others; the
        same random state gives the same draft.

        Where no operator comes through, the draft is the parent itself, with the operator `none`.
        """
        first, *others = parents
        for attempt in range(TRIES):
            names, module, used = self._changed(first, others, random, wanted if attempt < 2 else "")
            if names and self._is_new(source := module.code, parents):
                first_one, detail = names[0], ", then ".join(names) if len(names) > 1 else ""
                return Draft(first_one, tuple(dict.fromkeys(used)), source, detail)
        for _ in range(FALLBACK_TRIES):
            varied = vary(parse(first.source), (), random)
            if varied is not None and self._is_new(source := varied.code, parents):
                return Draft("vary", (first.hash,), source)
        return Draft("none", (first.hash,), first.source)

    def weights(self, parent: Parent) -> dict[str, float]:
        """How often each operator that suits a parent is to be tried, before anything is learned."""
        module = parse(parent.source)
        return {
            operator.name: operator.weight
            for operator in self.operators
            if operator.suits(module) and (operator.reads is None or operator.reads.search(parent.feedback))
        }

    def _changed(
        self, first: Parent, others: list[Parent], random: "Generator", wanted: str
    ) -> tuple[list[str], cst.Module, list[str]]:
        """One or two operators in a row: their names, the result, and the hashes of what went into it."""
        module, names, used = parse(first.source), list[str](), [first.hash]
        for turn in range(2 if random.random() < SECOND else 1):
            operator = self._drawn(module, random, wanted if turn == 0 else "")
            other = others[random.integers(len(others))] if operator.crosses and others else None
            given: object = (parse(other.source),) if other else ()
            if operator.reads is not None:
                given = (first.feedback, parse(other.source), other.feedback) if other else first.feedback
            changed = None if operator.reads and names else operator.apply(module, given, random)
            if changed is None:
                continue
            module = changed
            names.append(operator.name)
            if other:
                used.append(other.hash)
            if operator.name == SIMPLIFY:  # whether it changed anything can be told only of it alone
                break
        return names, without_unused(module, parse(first.source)) if names else module, used

    def _drawn(self, module: cst.Module, random: "Generator", wanted: str) -> Operator:
        suited = [operator for operator in self.operators if operator.suits(module)] or [*self.operators]
        for operator in suited:
            if operator.name == wanted:
                return operator
        place = random.random() * sum(operator.weight for operator in suited)
        for operator in suited:
            place -= operator.weight
            if place < 0:
                return operator
        return suited[-1]

    def _is_new(self, source: str, parents: Sequence[Parent]) -> bool:
        if any(source == parent.source for parent in parents):
            return False
        try:
            ast.parse(source)
        except SyntaxError:
            return False
        return self.is_clean(source)
