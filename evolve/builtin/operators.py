"""The operators of the built-in proposer and how often each is drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.add_sampling import add_sampling
from evolve.builtin.crossover import crossover
from evolve.builtin.exchange import exchange_function, exchange_operator
from evolve.builtin.quantise import quantise
from evolve.builtin.share_layers import share_layers
from evolve.builtin.specialise import specialise
from evolve.builtin.statements import delete, insert, move
from evolve.builtin.switch import switch
from evolve.builtin.tune import tune
from evolve.builtin.wrap import wrap

if TYPE_CHECKING:
    from numpy.random import Generator

Apply = Callable[[cst.Module, tuple[cst.Module, ...], "Generator"], cst.Module | None]


@dataclass(frozen=True)
class Operator:
    """One way to change a candidate. `apply` gives None where it finds nothing to change."""

    name: str
    weight: float
    apply: Apply
    crosses: bool = False  # takes something from a second parent


OPERATORS = (
    Operator("tune", 0.30, tune),
    Operator("share_layers", 0.12, share_layers),
    Operator("switch", 0.10, switch, crosses=True),
    Operator("crossover", 0.10, crossover, crosses=True),
    Operator("specialise", 0.10, specialise),
    Operator("wrap", 0.07, wrap),
    Operator("add_sampling", 0.06, add_sampling),
    Operator("exchange_operator", 0.05, exchange_operator),
    Operator("insert", 0.04, insert),
    Operator("exchange_function", 0.02, exchange_function),
    Operator("quantise", 0.02, quantise),
    Operator("delete", 0.01, delete),
    Operator("move", 0.01, move),
)
