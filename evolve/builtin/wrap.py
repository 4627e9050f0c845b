"""Wrapping: a tensor assigned to a local variable goes through one more function that keeps its shape."""

from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.arithmetic import wrap_arithmetic
from evolve.builtin.kinds import REAL, Kind, kind_of, kinds_in
from evolve.builtin.selects import select_of
from evolve.builtin.syntax import (
    Site,
    expression,
    parenthesised,
    replaced,
    sites,
    with_constant,
)

if TYPE_CHECKING:
    from numpy.random import Generator

# text with {x}, and the constant it brings (name, lowest, highest; drawn log-uniformly) in place of {c}
Form = tuple[str, tuple[str, float, float] | None]
FOR_POSITIVE: tuple[Form, ...] = (
    ("{x}.sqrt()", None),
    ("{x} ** {c}", ("POWER", 0.3, 3.0)),
    ("torch.log1p({x} * {c})", ("LOG_SCALE", 1.0, 1000.0)),
    ("{x} / {x}.amax(-1, keepdim=True).clamp(min=1e-9)", None),
)
FOR_REAL: tuple[Form, ...] = (
    ("{x} * {c}", ("SCALE", 0.3, 3.0)),
    ("{x} - {x}.mean(-1, keepdim=True)", None),
    ("{x}.clamp(min=0)", None),
    ("{x} / {x}.norm(dim=-1, keepdim=True).clamp(min=1e-9)", None),
    ("({x} * {c}).sigmoid()", ("SIGMOID_SCALE", 0.1, 3.0)),
    ("({x} * {c}).softmax(-1)", ("SOFTMAX_SCALE", 0.3, 3.0)),
)
# Neighbours and the recent past: attention is local, and what was important once often is again.
FOR_TOKENS: tuple[Form, ...] = (
    (
        "{x} + {c} * {x}.abs().mean(-1, keepdim=True) * torch.linspace(0, 1, {x}.shape[-1])",
        ("RECENCY_BONUS", 0.03, 3.0),
    ),
    (
        "{x} + {c} * {x}.std(-1, keepdim=True) * torch.linspace(0, 1, {x}.shape[-1])",
        ("RECENCY_BONUS", 0.03, 3.0),
    ),
    ("torch.maximum({x}, {c} * {x}.roll(1, -1))", ("SPREAD_SCALE", 0.1, 1.0)),
    ("{x} + {c} * ({x}.roll(1, -1) + {x}.roll(-1, -1))", ("SPREAD_SCALE", 0.03, 1.0)),
    ("({x}.roll(1, -1) + {x} + {x}.roll(-1, -1)) / 3", None),
)


def wrap(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Wraps an assigned tensor in a root, power, scale, logarithm, clamp, moving average, or a bonus for
    recent tokens; in a program that is no policy, any arithmetic.
    """
    select = select_of(module)
    if select is None:
        return wrap_arithmetic(module, random)
    known = kinds_in(select[1])
    found = [
        site.node
        for site in sites(select[1])
        if isinstance(site.node, cst.Assign) and _wrappable(site, site.node, known)
    ]
    if not found:
        return None
    assign = found[random.integers(len(found))]
    target = assign.targets[0].target
    kind = kind_of(assign.value, known)
    forms = FOR_REAL + FOR_TOKENS + (FOR_POSITIVE if kind is Kind.POSITIVE else ())
    text, constant = forms[random.integers(len(forms))]
    if text.count("{x}") > 1 and not isinstance(target, cst.Name):
        return None
    changed, name = module, ""
    if constant:
        wanted, low, high = constant
        value = low * (high / low) ** random.random()
        changed, name = with_constant(module, wanted, f"{value:.2f}")
    if text.count("{x}") == 1:
        new = expression(text.format(x=parenthesised(assign.value), c=name))
        return replaced(changed, {assign.value: new})
    return _behind(changed, assign, text, name)


def _behind(module: cst.Module, assign: cst.Assign, text: str, constant: str) -> cst.Module | None:
    """A second assignment behind the first: `text` needs the value more than once."""
    target = assign.targets[0].target
    assert isinstance(target, cst.Name)
    again = cst.parse_statement(f"{target.value} = {text.format(x=target.value, c=constant)}\n")
    for site in sites(module):
        if isinstance(site.node, cst.IndentedBlock):
            for number, line in enumerate(site.node.body):
                if isinstance(line, cst.SimpleStatementLine) and assign in line.body:
                    body = [*site.node.body[: number + 1], again, *site.node.body[number + 1 :]]
                    return replaced(module, {site.node: site.node.with_changes(body=body)})
    return None


def _wrappable(site: Site, assign: cst.Assign, known: dict[str, Kind]) -> bool:
    single = len(assign.targets) == 1 and isinstance(assign.targets[0].target, cst.Name)
    if not single or kind_of(assign.value, known) not in REAL:
        return False
    name = assign.targets[0].target
    return isinstance(name, cst.Name) and "probab" not in name.value  # a wrong probability has no score
