"""The operators of the built-in proposer and how often each is drawn."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import libcst as cst

from evolve.builtin.add_sampling import add_sampling
from evolve.builtin.allot import ALLOT, allot
from evolve.builtin.arithmetic import blend, is_plain
from evolve.builtin.blocks import insert_block, remove_block, repeat
from evolve.builtin.choose import choose
from evolve.builtin.compose import choose_by_head, reuse, unite
from evolve.builtin.crossover import crossover
from evolve.builtin.errors import ERRORS
from evolve.builtin.evict import blend_scores, graft, rescore, share_bytes, store
from evolve.builtin.exchange import exchange_function, exchange_operator
from evolve.builtin.freeze import RETURNED, freeze
from evolve.builtin.hand_over import HAND_OVER, READ, hand_over
from evolve.builtin.improve import IMPROVE, improve, places
from evolve.builtin.quantise import can_be_quantised, quantise
from evolve.builtin.relax import PACKAGE, can_be_relaxed, relax
from evolve.builtin.selects import evicts, has_budget, select_of, selection_of
from evolve.builtin.share_layers import share_layers
from evolve.builtin.simplify import simplify
from evolve.builtin.specialise import specialise
from evolve.builtin.statements import delete, insert, move
from evolve.builtin.switch import switch
from evolve.builtin.vary import vary
from evolve.builtin.wrap import wrap

if TYPE_CHECKING:
    from numpy.random import Generator

# the program, what else is given (a second parent, or what was read), random numbers -> the changed program
Apply = Callable[[cst.Module, Any, "Generator"], cst.Module | None]


@dataclass(frozen=True)
class Operator:
    """One way to change a candidate. `apply` gives None where it finds nothing to change."""

    name: str
    weight: float
    apply: Apply
    crosses: bool = False  # takes something from a second parent
    # what it looks for in the feedback of its parents, so that it works on nothing but the parent itself
    reads: re.Pattern[str] | None = None
    suits: Callable[[cst.Module], bool] = lambda _: True  # whether it can find something to do at all
    needs: str = ""  # a package that what it makes imports


def is_policy(module: cst.Module) -> bool:
    """Whether a program is a policy with the `select` of token selection."""
    return select_of(module) is not None


def selects(module: cst.Module) -> bool:
    """Whether a program is a policy with the `select` of any interface."""
    return selection_of(module) is not None


def can_be_valued(module: cst.Module) -> bool:
    """Whether a program makes an answer that it can value itself."""
    return is_plain(module) and bool(places(module, module))


OPERATORS = (
    Operator("vary", 0.24, vary),
    Operator("crossover", 0.10, crossover, crosses=True),
    Operator("wrap", 0.07, wrap),
    Operator("exchange_operator", 0.05, exchange_operator),
    Operator("exchange_function", 0.02, exchange_function, suits=is_policy),
    Operator("choose", 0.03, choose),
    Operator("insert", 0.04, insert, suits=is_policy),
    Operator("insert_block", 0.02, insert_block, crosses=True),
    Operator("delete", 0.01, delete),
    Operator("remove_block", 0.01, remove_block),
    Operator("move", 0.01, move),
    Operator("simplify", 0.05, simplify),
    Operator("share_layers", 0.12, share_layers, suits=has_budget),
    Operator(ALLOT, 0.10, allot, suits=has_budget, reads=ERRORS),
    Operator("switch", 0.09, switch, crosses=True, suits=selects),
    Operator(HAND_OVER, 0.10, hand_over, crosses=True, suits=selects, reads=READ),
    Operator("specialise", 0.10, specialise, suits=selects),
    Operator("add_sampling", 0.06, add_sampling, suits=is_policy),
    Operator("unite", 0.02, unite, crosses=True, suits=has_budget),
    Operator("choose_by_head", 0.01, choose_by_head, crosses=True, suits=has_budget),
    Operator("reuse", 0.02, reuse, suits=has_budget),
    Operator("rescore", 0.12, rescore, suits=evicts),
    Operator("blend_scores", 0.16, blend_scores, crosses=True, suits=evicts),
    Operator("graft", 0.16, graft, crosses=True, suits=evicts),
    Operator("store", 0.10, store, suits=evicts),
    Operator("share_bytes", 0.10, share_bytes, suits=evicts),
    Operator("quantise", 0.08, quantise, suits=can_be_quantised),
    Operator("blend", 0.10, blend, suits=is_plain),
    Operator(IMPROVE, 0.20, improve, crosses=True, suits=is_plain),
    Operator("relax", 0.20, relax, suits=can_be_relaxed, needs=PACKAGE),
    Operator("repeat", 0.03, repeat, suits=is_plain),
    Operator("freeze", 0.10, freeze, suits=can_be_valued, reads=RETURNED),
)
