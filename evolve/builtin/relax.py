"""Relaxation: what a program fills greedily is searched together with the answer, within its own rules.

A decoder gives each item of an answer as much as is allowed: it caps (`filled[i] = min(...)`) and takes back
what breaks a rule (`if a + b > c:`). Read as inequalities, caps and rules say what is allowed at all, and a
solver for nonlinear programs finds the answer and its filling at once; the decoder has only to check them.
The solver is SLSQP of scipy (Kraft, "A Software Package for Sequential Quadratic Programming", 1988).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import libcst as cst

from evolve.builtin.cheaper import cheaper
from evolve.builtin.functions import functions
from evolve.builtin.improve import Place, places
from evolve.builtin.syntax import (
    block_of,
    code,
    expression,
    fresh,
    names_in,
    parameters,
    parenthesised,
    replaced,
    sites,
    statement,
    with_constant,
    with_definitions,
    with_import,
    written_by,
)

if TYPE_CHECKING:
    from numpy.random import Generator

PACKAGE = "scipy"
SOLVER = "SLSQP"
CAPS = ("min", "np.minimum", "numpy.minimum")
MOST_TRIES = 4
SOLVED = '''\
def {name}(start, filled, room):
    """The most that can be filled while the rules leave room, by sequential quadratic programming: the best
    of some tries, the first one from `start`, the others from somewhere near.
    """
    draw = np.random.default_rng({seed})
    size, best = start.size, None
    rules = [
        {{"type": "ineq", "fun": lambda both: room(both[:size].reshape(start.shape), both[size:])}},
        {{"type": "ineq", "fun": lambda both: both[size:]}},
    ]
    for turn in range({tries}):
        near = {shake} * np.std(start) * draw.normal(size=start.shape)
        first = np.concatenate([(start + near if turn else start).ravel(), filled])
        new = scipy.optimize.minimize(
            lambda both: -np.sum(both[size:]), first, method="SLSQP", constraints=rules
        )
        if best is None or (new.success, -new.fun) > (best.success, -best.fun):
            best = new
    return best.x[:size].reshape(start.shape), best.x[size:]
'''


@dataclass(frozen=True)
class Decoder:
    """A function that fills an array for an answer."""

    place: Place
    filled: str  # the name of the array
    rules: Sequence[cst.BaseStatement]  # what collects in `left` how much each rule leaves
    caps: Sequence[cst.Assign]  # where an element of the array is set


class UnreadableError(Exception):
    """A statement that is neither a cap nor a rule."""


def can_be_relaxed(module: cst.Module) -> bool:
    """Whether a program has a decoder whose rules can be read, and has not been relaxed."""
    return SOLVER not in module.code and bool(_decoders(module))


def relax(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Searches an answer and what is filled for it together, by the rules of the decoder that fills it."""
    found = [] if SOLVER in module.code else _decoders(module)
    if not found:
        return None
    decoder = found[random.integers(len(found))]
    library, decodes = decoder.place.function.library, decoder.place.valuing.name.value
    solved, room, most = (fresh(wanted, names_in(module)) for wanted in ("improved", "room", "most"))
    changed = replaced(module, _changes(decoder, solved, room, most))
    constants = {}
    for key, wanted, value in (
        ("seed", "SEED", str(random.integers(1000))),
        ("tries", "TRIES", str(random.integers(1, MOST_TRIES + 1))),
        ("shake", "SHAKE_SCALE", f"{10 ** random.uniform(-2, 0):.2g}"),
    ):
        changed, constants[key] = with_constant(changed, wanted, value)
    text = SOLVED.format(name=solved, **constants).replace("np.", f"{library}.")
    answer = parameters(decoder.place.valuing)[0]
    rules = cast(
        "cst.FunctionDef",
        statement(
            f"def {room}({answer}, {decoder.filled}):\n"
            f'    """How much is left by each rule of {decodes}."""\n'
            f"    {decoder.filled}, left = {decoder.filled}.tolist(), []\n"
        ),
    )
    body = cast("cst.IndentedBlock", rules.body)
    lines = [*body.body, *decoder.rules, statement(f"return {library}.array(left)\n")]
    changed = with_definitions(
        changed, [rules.with_changes(body=body.with_changes(body=lines)), statement(text)]
    )
    return cheaper(with_import(changed, "scipy.optimize"))


def _changes(decoder: Decoder, solved: str, room: str, most: str) -> dict[cst.CSTNode, cst.CSTNode]:
    """The search behind the making of the answer, and a limit for each item that the decoder fills."""
    place, decodes = decoder.place, decoder.place.valuing
    function, variable, name = place.function, place.variable, decodes.name.value
    changes: dict[cst.CSTNode, cst.CSTNode] = {}
    for cap in decoder.caps:
        element = cast("cst.Subscript", cap.targets[0].target)
        limit = code(element.with_changes(value=cst.Name(most)))
        value = parenthesised(cap.value)
        capped = expression(f"{value} if {most} is None else min({value}, {limit})")
        changes[cap.value] = capped
    tight = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    optional = cst.Param(cst.Name(most), equal=tight, default=cst.Name("None"))
    changes[decodes.params] = decodes.params.with_changes(params=[*decodes.params.params, optional])
    search = statement(f"{variable}, {most} = {solved}({variable}, {name}({variable}), {room})\n")
    later = []
    for line in function.block.body[place.number + 1 :]:
        calls: dict[cst.CSTNode, cst.CSTNode] = {
            site.node: expression(f"{name}({variable}, {most})")
            for site in sites(line)
            if isinstance(site.node, cst.Call) and code(site.node) == f"{name}({variable})"
        }
        later.append(replaced(line, calls))
    body = [*function.block.body[: place.number + 1], search, *later]
    changes[function.block] = function.block.with_changes(body=body)
    return changes


def _decoders(module: cst.Module) -> list[Decoder]:
    """Functions that fill an array by caps and rules, where what they fill counts by its sum."""
    found = []
    for place in places(module, module):
        decodes = place.valuing
        block, library = block_of(decodes), place.function.library
        if block is None or place.value != f"{library}.sum({decodes.name.value}(trial))":
            continue
        filled, caps = _filled(decodes, library), list[cst.Assign]()
        if filled is None or len(parameters(decodes)) != 1:
            continue
        if not any(function.node is decodes for function in functions(module)):
            continue  # it stands outside of what may be changed
        try:
            rules = _rules(block.body, filled, caps)
        except UnreadableError:
            continue
        if rules and caps:
            found.append(Decoder(place, filled, rules, caps))
    return found


def _filled(decodes: cst.FunctionDef, library: str) -> str | None:
    """The name of the array that a function returns at its end, and nowhere else."""
    ends = [site.node.value for site in sites(decodes) if isinstance(site.node, cst.Return)]
    if len(ends) != 1 or ends[0] is None:
        return None
    found = re.fullmatch(rf"(?:{library}\.array\()?(\w+)\)?", code(ends[0]))
    return found[1] if found else None


def _rules(
    lines: Sequence[cst.BaseStatement], filled: str, caps: list[cst.Assign]
) -> list[cst.BaseStatement]:
    """The statements that collect how much is left by what a decoder does; its caps are added to `caps`."""
    found: list[cst.BaseStatement] = []
    for line in lines:
        if isinstance(line, cst.For) and isinstance(line.body, cst.IndentedBlock) and line.orelse is None:
            if inner := _rules(line.body.body, filled, caps):
                body = line.body.with_changes(body=inner)
                found.append(line.with_changes(body=body, leading_lines=[]))
        elif isinstance(line, cst.If):
            found.append(_rule(line, filled))
        elif isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1:
            found += _simple(line, filled, caps)
        else:
            raise UnreadableError
    return found


def _simple(line: cst.SimpleStatementLine, filled: str, caps: list[cst.Assign]) -> list[cst.BaseStatement]:
    part = line.body[0]
    if isinstance(part, cst.Return) or (
        isinstance(part, cst.Expr) and isinstance(part.value, cst.SimpleString)
    ):
        return []
    if not isinstance(part, cst.Assign):
        raise UnreadableError
    target = part.targets[0].target
    if isinstance(target, cst.Subscript) and code(target.value) == filled:
        if filled in names_in(part.value):
            raise UnreadableError
        caps.append(part)
        limits = [part.value]
        if isinstance(part.value, cst.Call) and code(part.value.func) in CAPS:
            limits = [argument.value for argument in part.value.args]
        given = ", ".join(f"{code(limit)} - {code(target)}" for limit in limits)
        return [statement(f"left += [{given}]\n")]
    if written_by(line) == {filled}:
        return []  # its creation
    if filled in names_in(line):
        raise UnreadableError
    return [line.with_changes(leading_lines=[])]


def _rule(line: cst.If, filled: str) -> cst.BaseStatement:
    """What a rule leaves: its body takes back what its test finds too much."""
    test = line.test
    if line.orelse is not None or not isinstance(test, cst.Comparison) or len(test.comparisons) != 1:
        raise UnreadableError
    sign, right = test.comparisons[0].operator, test.comparisons[0].comparator
    changed = {
        code(site.node.target.value if isinstance(site.node.target, cst.Subscript) else site.node.target)
        for site in sites(line.body)
        if isinstance(site.node, cst.AssignTarget | cst.AugAssign)
    }
    if filled not in changed or any(isinstance(site.node, cst.If | cst.For) for site in sites(line.body)):
        raise UnreadableError
    if isinstance(sign, cst.GreaterThan | cst.GreaterThanEqual):
        return statement(f"left.append({code(right)} - ({code(test.left)}))\n")
    if isinstance(sign, cst.LessThan | cst.LessThanEqual):
        return statement(f"left.append({code(test.left)} - ({code(right)}))\n")
    raise UnreadableError
