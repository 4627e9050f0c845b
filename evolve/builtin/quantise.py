"""Quantisation: an index of half-precision numbers is kept in one byte each, with a step per channel."""

from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.crossover import state
from evolve.builtin.syntax import code, expression, fresh, methods, policy, replaced, sites, statement

if TYPE_CHECKING:
    from numpy.random import Generator


def quantise(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Stores `Index(x.half())` as signed bytes, so that a budget carries twice the index."""
    prefill, owner = methods(module).get("prefill"), policy(module)
    if prefill is None or owner is None:
        return None
    found = [
        (block, line, assign)
        for site in sites(prefill)
        if isinstance(block := site.node, cst.IndentedBlock)
        for line in block.body
        if isinstance(line, cst.SimpleStatementLine)
        and isinstance(assign := line.body[0], cst.Assign)
        and code(assign.targets[0].target).startswith("self.")
        and code(assign.value).startswith("Index(")
        and code(assign.value).endswith(".half())")
    ]
    if not found:
        return None
    block, line, assign = found[random.integers(len(found))]
    kept = code(assign.targets[0].target)
    rows = code(assign.value)[len("Index(") : -len(".half())")]
    step = f"self.{fresh(kept[5:] + '_step', state(owner))}"
    changes: dict[cst.CSTNode, cst.CSTNode] = {}
    for site in sites(module):
        call = site.node
        if (
            not isinstance(call, cst.Call)
            or not isinstance(call.func, cst.Attribute)
            or code(call.func.value) != kept
        ):
            continue
        if call.func.attr.value in ("read", "gather"):
            changes[call] = expression(f"({code(call)} * {step})")
        elif call.func.attr.value == "append":
            changes[call.args[0].value] = expression(_rounded(code(call.args[0].value), step))
    first = statement(f"{step} = ({rows}).abs().amax(1, keepdim=True).clamp(min=1e-6) / 127\n")
    second = line.with_changes(body=[assign.with_changes(value=expression(f"Index({_rounded(rows, step)})"))])
    place = list(block.body).index(line)
    body = [*block.body[:place], first, second, *block.body[place + 1 :]]
    return replaced(module, {block: block.with_changes(body=body), **changes})


def _rounded(rows: str, step: str) -> str:
    return f"(({rows}) / {step}).round().clamp(-127, 127).to(torch.int8)"
