"""Quantisation: an index of half-precision numbers is kept in one byte each, with a step per channel, and
then in half a byte.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.crossover import state
from evolve.builtin.syntax import (
    Statement,
    code,
    definitions,
    expression,
    fresh,
    methods,
    policy,
    replaced,
    sites,
    statement,
    with_definitions,
)

if TYPE_CHECKING:
    from numpy.random import Generator

HALF = ".half()"
BYTE = ".round().clamp(-127, 127).to(torch.int8)"
NIBBLE = ".round().clamp(-7, 7) + 8).to(torch.uint8)"
PACKED, UNPACKED = "packed", "unpacked"
PACKING = {
    PACKED: "    return rows[..., ::2] * 16 + rows[..., 1::2]\n",
    UNPACKED: "    return torch.stack([rows // 16, rows % 16], -1).flatten(-2).float() - 8\n",
}


def can_be_quantised(module: cst.Module) -> bool:
    """Whether a policy keeps an index that `quantise` can make smaller."""
    return bool(_indices(module))


def quantise(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Stores `Index(x.half())` as signed bytes, so that a budget carries twice the index; or such bytes as
    two in one, for an even number of channels.
    """
    found, owner = _indices(module), policy(module)
    if not found or owner is None:
        return None
    block, line, assign = found[random.integers(len(found))]
    kept, rows = code(assign.targets[0].target), code(assign.value)[len("Index(") : -1]
    if rows.endswith(BYTE):
        return _halved(module, kept, rows)
    rows = rows.removesuffix(HALF)
    step = f"self.{fresh(kept[5:] + '_step', state(owner))}"
    first = statement(f"{step} = ({rows}).abs().amax(1, keepdim=True).clamp(min=1e-6) / 127\n")
    second = line.with_changes(body=[assign.with_changes(value=expression(f"Index({_rounded(rows, step)})"))])
    place = list(block.body).index(line)
    body = [*block.body[:place], first, second, *block.body[place + 1 :]]
    changes = _uses(module, kept, lambda read: f"({read} * {step})", lambda new: _rounded(new, step))
    return replaced(module, {block: block.with_changes(body=body), **changes})


def _indices(module: cst.Module) -> list[tuple[cst.IndentedBlock, cst.SimpleStatementLine, cst.Assign]]:
    """Where indices of half-precision numbers, or of bytes made of them, are assigned: block, line and
    assignment.
    """
    prefill = methods(module).get("prefill")
    return [
        (block, line, assign)
        for site in (sites(prefill) if prefill is not None else ())
        if isinstance(block := site.node, cst.IndentedBlock)
        for line in block.body
        if isinstance(line, cst.SimpleStatementLine)
        and isinstance(assign := line.body[0], cst.Assign)
        and code(assign.targets[0].target).startswith("self.")
        and code(assign.value).startswith("Index(")
        and code(assign.value).endswith((HALF + ")", BYTE + ")"))
    ]


def _halved(module: cst.Module, kept: str, rows: str) -> cst.Module | None:
    """`module` with the bytes that `kept` holds packed two in one; None where its step is not found."""
    step = rows.removesuffix(BYTE).rstrip(")").rpartition(" / ")[2]
    changes: dict[cst.CSTNode, cst.CSTNode] = {}
    for site in sites(module):
        if isinstance(assign := site.node, cst.Assign):
            value = code(assign.value)
            if code(assign.targets[0].target) == step and value.endswith(" / 127"):
                changes[assign.value] = expression(value.removesuffix("127") + "7")
            elif code(assign.targets[0].target) == kept and value == f"Index({rows})":
                changes[assign.value] = expression(f"Index({_packed(rows)})")
    if len(changes) != 2:
        return None
    changes |= _uses(module, kept, lambda read: f"{UNPACKED}({read})", _packed)
    ours, new = definitions(module), list[Statement]()
    for name, body in PACKING.items():
        function = cst.parse_statement(f"def {name}(rows):\n{body}")
        assert isinstance(function, cst.FunctionDef)
        if name not in ours:
            new.append(function)
        elif code(ours[name]).strip() != code(function).strip():
            return None
    return with_definitions(replaced(module, changes), new)


def _uses(
    module: cst.Module, kept: str, read: Callable[[str], str], appended: Callable[[str], str]
) -> dict[cst.CSTNode, cst.CSTNode]:
    """What becomes of the expressions in which an index is read, and of what is appended to it."""
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
            changes[call] = expression(read(code(call)))
        elif call.func.attr.value == "append":
            changes[call.args[0].value] = expression(appended(code(call.args[0].value)))
    return changes


def _rounded(rows: str, step: str) -> str:
    return f"(({rows}) / {step}){BYTE}"


def _packed(rows: str) -> str:
    """Bytes between -127 and 127 as halves of bytes: their step is wider."""
    return f"{PACKED}(({rows.removesuffix(BYTE)}{NIBBLE})"
