"""Local search inside a program: what it returns is improved by what the program itself says of it.

Where a program has a function that values an answer, such as the makespan of an order, and another that makes
one, a search is put between: simulated annealing over orders, assignments or real numbers (Kirkpatrick,
Gelatt and Vecchi, Science 220, 1983), or an ascent along differences (Kingma and Ba, "Adam",
arXiv:1412.6980).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.functions import Function, bound_before, functions, statements
from evolve.builtin.kinds import Kind, kind_of, kinds_in
from evolve.builtin.syntax import (
    Site,
    code,
    definitions,
    fresh,
    names_in,
    parameters,
    replaced,
    select_of,
    sites,
    statement,
    with_constant,
    with_definitions,
    with_import,
    written_by,
)

if TYPE_CHECKING:
    from numpy.random import Generator

ANNEALED = '''\
def {name}(start, loss):
    """Simulated annealing: {what}; what is worse is accepted less and less."""
    draw = random.Random({seed})
    now = list(start)
    value = loss(now)
    best, least = list(now), value
    values = sorted(set(now))
    for turn in range({rounds}):
        one, other = draw.randrange(len(now)), draw.randrange(len(now))
        trial = list(now)
{change}
        new = loss(trial)
        heat = {heat} * abs(least) * (1 - turn / {rounds})
        if new <= value or (heat > 0 and draw.random() < math.exp(max(-50.0, (value - new) / heat))):
            now, value = trial, new
            if value < least:
                best, least = list(now), value
    return best
'''
ORDER = """\
        if draw.random() < {moves}:
            trial.insert(other, trial.pop(one))
        else:
            trial[one], trial[other] = trial[other], trial[one]"""
ASSIGNMENT = """\
        if draw.random() < {moves}:
            trial[one] = draw.choice(values)
        else:
            trial[one], trial[other] = trial[other], trial[one]"""
REAL = '''\
def {name}(start, loss):
    """Simulated annealing: some numbers take a random step; what is worse is accepted less and less."""
    draw = np.random.default_rng({seed})
    now = np.array(start, dtype=float)
    value = loss(now)
    best, least = now.copy(), value
    for turn in range({rounds}):
        width = {step} * 10 ** (-3 * draw.random())
        trial = now + width * draw.normal(size=now.shape) * (draw.random(now.shape) < {moves})
        new = loss(trial)
        heat = {heat} * abs(least) * (1 - turn / {rounds})
        if new <= value or (heat > 0 and draw.random() < math.exp(max(-50.0, (value - new) / heat))):
            now, value = trial, new
            if value < least:
                best, least = now.copy(), value
    return best
'''
ASCENT = '''\
def {name}(start, loss):
    """Goes down along differences of the loss, with the step sizes of Adam; the best point on the way."""
    now = np.array(start, dtype=float)
    best, least = now.copy(), loss(now)
    first, second = np.zeros(now.size), np.zeros(now.size)
    turns = max(1, {rounds} // (now.size + 1))
    for turn in range(turns):
        value = loss(now)
        if value < least:
            best, least = now.copy(), value
        rate = {step} * (1 - turn / turns)
        slope = np.zeros(now.size)
        for place in range(now.size):
            trial = now.copy()
            trial.flat[place] += 0.1 * rate
            slope[place] = (loss(trial) - value) / (0.1 * rate)
        first = 0.9 * first + 0.1 * slope
        second = 0.99 * second + 0.01 * slope**2
        move = first / (1 - 0.9 ** (turn + 1)) / (np.sqrt(second / (1 - 0.99 ** (turn + 1))) + 1e-8)
        now = now - rate * move.reshape(now.shape)
    return best if least < loss(now) else now
'''
LESS = ("cost", "makespan", "loss", "pressure", "error", "distance", "latency", "penalty", "waste")
MORE = ("hit", "score", "gain", "reward", "sum", "saving", "radii", "fitness", "quality", "balance", "value")
ORDERED = ("order", "perm", "argsort", "sorted(range", "sequence", "schedule", "rank")
FEWEST_ROUNDS, MOST_ROUNDS = 100, 1000
MOST_SEARCHES = 2  # of one program


@dataclass(frozen=True)
class Place:
    """Where an answer can be improved: the variable, the statement after which it is whole, and its value."""

    function: Function
    variable: str
    block: cst.IndentedBlock
    number: int  # of that statement
    value: str  # of an answer called `trial`, as an expression
    valued_by: str  # the function that values it


def improve(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Puts a local search behind the making of an answer that the program can value itself."""
    if select_of(module) is not None or module.code.count("(start, loss):") >= MOST_SEARCHES:
        return None
    found = places(module)
    if not found:
        return None
    place = found[random.integers(len(found))]
    sign = "" if _is_loss(place, random) else "-"
    form, change, what = _form(place, random)
    rounds = round(FEWEST_ROUNDS * (MOST_ROUNDS / FEWEST_ROUNDS) ** random.random())
    changed, constants = module, {}
    for key, wanted, value in (
        ("seed", "SEED", str(random.integers(1000))),
        ("rounds", "ROUNDS", str(rounds)),
        ("heat", "HEAT_SCALE", f"{10 ** random.uniform(-4, -1):.2g}"),
        ("moves", "MOVES", f"{random.uniform(0.1, 0.9):.2f}"),
        ("step", "STEP_SCALE", f"{10 ** random.uniform(-2, -0.5):.2g}"),
    ):
        if f"{{{key}}}" in form + change:
            changed, constants[key] = with_constant(changed, wanted, value)
    name = fresh("improved", names_in(changed))
    text = form.format(name=name, what=what, change=change.format(**constants), **constants)
    text = text.replace("np.", f"{place.function.library}.")
    body = list(place.block.body)
    call = statement(f"{place.variable} = {name}({place.variable}, lambda trial: {sign}{place.value})\n")
    body.insert(place.number + 1, call)
    changed = replaced(changed, {place.block: place.block.with_changes(body=body)})
    changed = with_definitions(changed, [statement(text)])
    if "random.Random" in text:
        changed = with_import(changed, "random")
    return with_import(changed, "math") if "math." in text else changed


def places(module: cst.Module) -> list[Place]:
    """Every answer of the program that one of its own functions can value."""
    valuing = {name: node for name, node in definitions(module).items() if isinstance(node, cst.FunctionDef)}
    found = []
    for function in functions(module):
        for variable in _returned(function):
            for name, node in valuing.items():
                number = _whole_at(function, variable)
                if node is function.node or number is None:
                    continue
                here = Site(function.block, (function.node,))
                bound = _bound_after(function, here, number)
                if value := _value(function, variable, node, bound):
                    found.append(Place(function, variable, function.block, number, value, name))
    return found


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


def _bound_after(function: Function, here: Site, number: int) -> set[str]:
    body = function.block.body
    following = body[number + 1] if number + 1 < len(body) else body[number]
    return bound_before(function, Site(following, (*here.trail, function.block)))


def _value(function: Function, variable: str, valuing: cst.FunctionDef, bound: set[str]) -> str:
    """The call that values `trial` in place of a variable; "" where not all arguments are known."""
    wanted, name = parameters(valuing), valuing.name.value
    if not wanted or any(parameter.default for parameter in valuing.params.params[:1]):
        return ""
    needed = [p.name.value for p in valuing.params.params if p.default is None]
    answer = variable if variable in needed else needed[0]
    arguments = ["trial" if parameter == answer else parameter for parameter in needed]
    if not set(arguments) - {"trial"} <= bound:
        return ""
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
    said = place.valued_by.lower()
    less, more = any(word in said for word in LESS), any(word in said for word in MORE)
    return random.random() < (0.5 if less == more else 0.95 if less else 0.05)


def _form(place: Place, random: "Generator") -> tuple[str, str, str]:
    """The search that suits an answer: its text, how it changes an answer, and that in words."""
    order = (ANNEALED, ORDER, "an item moves, or two change places")
    assignment = (ANNEALED, ASSIGNMENT, "an item gets the value of another one, or two change places")
    real, ascent = (REAL, "", ""), (ASCENT, "", "")
    made = " ".join(
        code(site.node)
        for site in sites(place.function.node)
        if isinstance(site.node, cst.Assign) and code(site.node.targets[0].target) == place.variable
    )
    kind = place.function.known.get(place.variable)
    if kind in (Kind.FLOAT, Kind.POSITIVE) and "int" not in made:
        return (real, ascent)[random.integers(2)]
    hints = (place.variable + " " + made).lower()
    if any(hint in hints for hint in ORDERED):
        return order if random.random() < 0.9 else assignment
    return order if random.random() < 0.2 else assignment
