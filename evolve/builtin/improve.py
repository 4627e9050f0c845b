"""Local search inside a program: what it returns is improved by what the program itself says of it.

Where a program has a function that values an answer, such as the makespan of an order, and another that makes
one, a search of `searches.py` is put between.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.borrow import borrowed
from evolve.builtin.cheaper import cheaper
from evolve.builtin.functions import Function, bound_before, functions, statements
from evolve.builtin.kinds import Kind, kind_of, kinds_in
from evolve.builtin.searches import (
    ASCENT,
    ASSIGNMENT,
    ASSIGNMENT_ITERATED,
    COUNTED_ASSIGNMENT,
    COUNTED_ASSIGNMENT_ITERATED,
    ORDER,
    ORDER_ITERATED,
    REAL,
)
from evolve.builtin.syntax import (
    Site,
    code,
    definitions,
    expression,
    fresh,
    names_in,
    parameters,
    renamed,
    replaced,
    sites,
    statement,
    with_constant,
    with_definitions,
    with_import,
    written_by,
)
from evolve.builtin.vary import ROUNDS, more_rounds

if TYPE_CHECKING:
    from numpy.random import Generator

IMPROVE = "improve"
LESS = ("cost", "makespan", "loss", "pressure", "error", "distance", "latency", "penalty", "waste")
MORE = ("hit", "score", "gain", "reward", "sum", "saving", "radii", "fitness", "quality", "balance", "value")
ORDERED = ("order", "perm", "argsort", "sorted(range", "sequence", "schedule", "rank")
FIRST_ROUNDS = (500, 8000)  # what a search begins with lies between
MOST_SEARCHES = 2  # of one program
LONGER = 0.4  # probability that a search goes on longer, instead of another one coming behind it


@dataclass(frozen=True)
class Place:
    """Where an answer can be improved: the variable, the statement after which it is whole, and its value."""

    function: Function
    variable: str
    number: int  # of that statement
    valuing: cst.FunctionDef
    value: str  # of an answer called `trial`, as an expression
    limits: tuple[str, ...]  # names of numbers that count what an answer may hold


@dataclass(frozen=True)
class Form:
    """The text of a search; one that counts is told how many values an item of the answer may have."""

    text: str
    counts: bool = False


def improve(module: cst.Module, others: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Puts a local search behind the making of an answer that the program, or a second parent, can value."""
    searches = module.code.count("(start, loss")
    if searches >= MOST_SEARCHES or (searches and random.random() < LONGER):
        return more_rounds(module, random)
    donor = module
    found = places(module, module)
    if not found and others:
        donor = others[0]
        found = places(module, donor)
    if not found:
        return None
    place = found[random.integers(len(found))]
    changed, names = module, dict[str, str]()
    if donor is not module:
        changed, names = borrowed(module, donor, [cst.Name(place.valuing.name.value)])
    value = code(renamed(expression(place.value), names))
    sign = "" if _is_loss(place, random) else "-"
    form = _form(place, random)
    changed, name = _with_search(changed, form, place.function.library, random)
    counted = f", {place.limits[0]}" if form.counts else ""
    call = f"{place.variable} = {name}({place.variable}, lambda trial: {sign}{value}{counted})\n"
    block = place.function.block
    body = [*block.body[: place.number + 1], statement(call), *block.body[place.number + 1 :]]
    return cheaper(replaced(changed, {block: block.with_changes(body=body)}))


def _with_search(module: cst.Module, form: Form, library: str, random: "Generator") -> tuple[cst.Module, str]:
    """The module with the function that searches, and what it is called."""
    fewest, most = FIRST_ROUNDS
    rounds = round(fewest * (most / fewest) ** random.random())
    constants = {}
    for key, wanted, value in (
        ("seed", "SEED", str(random.integers(1000))),
        ("rounds", ROUNDS, str(rounds)),
        ("kicks", "KICKS", str(random.integers(2, 6))),
        ("cycles", "CYCLES", str(random.integers(1, 9))),
        ("heat", "HEAT_SCALE", f"{10 ** random.uniform(-3, -0.7):.2g}"),
        ("moves", "MOVES", f"{random.uniform(0.1, 0.9):.2f}"),
        ("step", "STEP_SCALE", f"{10 ** random.uniform(-2, -0.5):.2g}"),
    ):
        if f"{{{key}}}" in form.text:
            module, constants[key] = with_constant(module, wanted, value)
    name = fresh("improved", names_in(module))
    text = form.text.format(name=name, **constants).replace("np.", f"{library}.")
    module = with_definitions(module, [statement(text)])
    for needed, sign in (("random", "random.Random"), ("math", "math.")):
        module = with_import(module, needed) if sign in text else module
    return module, name


def places(module: cst.Module, donor: cst.Module) -> list[Place]:
    """Every answer of a program that a function of `donor` can value."""
    valuing = [
        node for node in definitions(donor).values() if isinstance(node, cst.FunctionDef) and _gives(node)
    ]
    found = []
    for function in functions(module):
        for variable in _returned(function):
            number = _whole_at(function, variable)
            if number is None:
                continue
            bound = _bound_after(function, number)
            for node in valuing:
                if code(node.name) != code(function.node.name) and (
                    value := _value(function, variable, node, bound)
                ):
                    limits = _limits(function, node)
                    found.append(Place(function, variable, number, node, value, limits))
    return found


def _gives(node: cst.FunctionDef) -> bool:
    """Whether a function returns something."""
    return any(isinstance(site.node, cst.Return) and site.node.value is not None for site in sites(node))


def _limits(function: Function, valuing: cst.FunctionDef) -> tuple[str, ...]:
    """Parameters of a function up to which it, or what values its answer, counts."""
    counted = {
        site.node.args[0].value.value
        for node in (function.node, valuing)
        for site in sites(node)
        if isinstance(site.node, cst.Call)
        and code(site.node.func) == "range"
        and len(site.node.args) == 1
        and isinstance(site.node.args[0].value, cst.Name)
    }
    return tuple(name for name in parameters(function.node) if name in counted)


def _returned(function: Function) -> list[str]:
    """Variables that the last statement of a function returns."""
    last = function.block.body[-1]
    if not isinstance(last, cst.SimpleStatementLine) or not isinstance(end := last.body[0], cst.Return):
        return []
    value = end.value
    parts = [element.value for element in value.elements] if isinstance(value, cst.Tuple) else [value]
    return [part.value for part in parts if isinstance(part, cst.Name)]


def _whole_at(function: Function, variable: str) -> int | None:
    """The number of the last statement of the body that writes a variable, or something in it."""
    found = None
    for number, line in enumerate(function.block.body):
        if any(_writes(part, variable) for part in statements(line)):
            found = number
    return found


def _writes(line: cst.CSTNode, variable: str) -> bool:
    if variable in written_by(line):
        return True
    return any(
        (isinstance(site.node, cst.AssignTarget) and code(site.node.target).startswith(f"{variable}["))
        or (isinstance(site.node, cst.Call) and code(site.node.func).startswith(f"{variable}."))
        for site in sites(line)
    )


def _bound_after(function: Function, number: int) -> set[str]:
    following = function.block.body[min(number + 1, len(function.block.body) - 1)]
    return bound_before(function, Site(following, (function.node, function.block)))


def _value(function: Function, variable: str, valuing: cst.FunctionDef, bound: set[str]) -> str:
    """The call that values `trial` in place of a variable; "" where not all arguments are known."""
    wanted, name = parameters(valuing), valuing.name.value
    if not wanted or any(parameter.default for parameter in valuing.params.params[:1]):
        return ""
    needed = [p.name.value for p in valuing.params.params if p.default is None]
    unknown = [parameter for parameter in needed if parameter not in bound or parameter == variable]
    if len(unknown) != 1:  # the answer is what it is not told otherwise
        return ""
    arguments = ["trial" if parameter in unknown else parameter for parameter in needed]
    call = f"{name}({', '.join(arguments)})"
    return f"{function.library}.sum({call})" if _gives_array(valuing, function) else call


def _gives_array(valuing: cst.FunctionDef, function: Function) -> bool:
    """Whether a function returns an array, as far as that can be seen."""
    if not function.library:
        return False
    ends = [site.node.value for site in sites(valuing) if isinstance(site.node, cst.Return)]
    block = valuing.body
    if not isinstance(block, cst.IndentedBlock) or not ends or ends[-1] is None:
        return False
    return kind_of(ends[-1], kinds_in(block, {})) in (Kind.FLOAT, Kind.POSITIVE)


def _is_loss(place: Place, random: "Generator") -> bool:
    """Whether less is better, by the name of what values an answer; drawn where that says nothing."""
    said = place.valuing.name.value.lower()
    less, more = any(word in said for word in LESS), any(word in said for word in MORE)
    return random.random() < (0.5 if less == more else 0.95 if less else 0.05)


def _form(place: Place, random: "Generator") -> Form:
    """The search that suits an answer."""
    made = " ".join(
        code(site.node)
        for site in sites(place.function.node)
        if isinstance(site.node, cst.Assign) and code(site.node.targets[0].target) == place.variable
    )
    kind = place.function.known.get(place.variable)
    if kind in (Kind.FLOAT, Kind.POSITIVE) and not re.search(r"\bint", made):
        return Form((REAL, ASCENT)[random.integers(2)])
    hints = (place.variable + " " + made).lower()
    ordered = 0.9 if any(hint in hints for hint in ORDERED) else 0.2
    which = int(random.integers(2))
    if random.random() < ordered:
        return Form((ORDER, ORDER_ITERATED)[which])
    if place.limits:
        return Form((COUNTED_ASSIGNMENT, COUNTED_ASSIGNMENT_ITERATED)[which], counts=True)
    return Form((ASSIGNMENT, ASSIGNMENT_ITERATED)[which])
