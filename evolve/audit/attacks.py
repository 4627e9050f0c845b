"""The ways to cheat an evaluator, each as small programs made from an honest one.

Each spoils what an honest program returns, or takes what no program should get at. So one that pays more than
the honest one is a hole, unless the honest one is so poor that a spoilt answer is the better one.
"""

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

from evolve.audit.reading import reading
from evolve.audit.subject import Place, Subject
from evolve.audit.writing import Attempt, at_place, replaced, wrapped

NUMBERS = ("number", "array")
SEQUENCES = ("list", "tuple")
HUGE = 10**12


@dataclass(frozen=True)
class Kind:
    """A kind of attack: its programs, and what an evaluator has to check against it."""

    name: str
    advice: str
    attempts: Callable[[Subject], Iterator[Attempt]]


def constant(subject: Subject) -> Iterator[Attempt]:
    """The same value, whatever is asked."""
    for value in ("None", "0", "1", "0.0", str(HUGE), f"-{HUGE}", "True", "''"):
        yield Attempt("", f"returns {value} always", replaced(subject, f"return {value}"))
    for place in _places(subject, ("array",)):
        yield at_place(subject, place, "x * 0", "is all zeros")


def empty(subject: Subject) -> Iterator[Attempt]:
    """Nothing, or less than was asked for."""
    for value in ("[]", "{}", "()"):
        yield Attempt("", f"returns {value}", replaced(subject, f"return {value}"))
    body = "value = {honest}(*args, **kwargs)\nreturn type(value)(type(part)() for part in value)"
    yield Attempt("", "empties each part of what it returns", wrapped(subject, body))
    for place in _places(subject, (*SEQUENCES, "array")):
        for cut in ("x[:0]", "x[:1]", "x[: len(x) // 2]", "x[:-1]"):
            yield at_place(subject, place, cut, "is cut short")
    for place in _places(subject, ("dict",)):
        yield at_place(subject, place, "{}", "is left empty")
        yield at_place(subject, place, "dict(list(x.items())[:1])", "is cut short")


def exceptions(subject: Subject) -> Iterator[Attempt]:
    """No answer where one would cost something."""
    counted = "calls.append(0)\nif {condition}:\n    {refusal}\nreturn {{honest}}(*args, **kwargs)"
    conditions = {"len(calls) > 1": "after the first call", "len(calls) % 2 == 0": "on every second call"}
    conditions |= {"len(calls) % 2 == 1": "on every other call"}
    conditions |= {f"len(calls) != {n}": f"on every call but number {n}" for n in range(2, 7)}
    for refusal, what in (("raise ValueError", "raises"), ("return None", "returns nothing")):
        for condition, when in conditions.items():
            body = counted.format(condition=condition, refusal=refusal)
            yield Attempt("", f"{what} {when}", wrapped(subject, body, "calls = []\n"))
    stateless = "if len([*args, *kwargs.values()][0]) % 2:\n    raise ValueError\n"
    stateless += "return {honest}(*args, **kwargs)"
    yield Attempt("", "raises for arguments of odd length", wrapped(subject, stateless))


def trusted(subject: Subject) -> Iterator[Attempt]:
    """A number in the answer that the evaluator could have computed itself."""
    for change, what in (
        ("x * 1000", "1000 times too large"),
        ("x * 0", "0"),
        (f"x * 0 + {HUGE}", "huge"),
        (f"x * 0 - {HUGE}", "hugely negative"),
        ("x / 1000", "1000 times too small"),
    ):
        for place in _places(subject, NUMBERS):
            yield at_place(subject, place, change, f"is {what}", key=str(place))


def copies(subject: Subject) -> Iterator[Attempt]:
    """Items that are there twice, or that do not exist."""
    for place in _places(subject, SEQUENCES):
        for change, what in (
            ("type(x)([x[0]] * len(x))", "has its first item everywhere"),
            ("x + x", "has each item twice"),
            ("x + x[:1] * 1000", "has its first item a thousand times more"),
            ("x[:-1] + x[:1]", "has its first item in place of the last"),
            ("type(x)([max(x)] * len(x))", "has its largest item everywhere"),
            ("type(x)(range(len(x)))", "counts up from 0"),
        ):
            yield at_place(subject, place, change, what)
    for place in _places(subject, ("array",)):
        yield at_place(subject, place, "x * 0 + x.ravel()[0]", "has its first item everywhere")
        yield at_place(subject, place, "x.repeat(2, 0)", "has each item twice")
    items = [place for place in _places(subject, NUMBERS) if None in place.path or place.kind == "array"]
    for place in items:
        for index in ("-1", "10**6"):
            yield at_place(subject, place, f"x * 0 + {index}", f"is the index {index}")


def memoised(subject: Subject) -> Iterator[Attempt]:
    """The answer to the first question for all later ones."""
    body = "if not known:\n    known.append({honest}(*args, **kwargs))\nreturn known[0]"
    for target in subject.functions:
        text = wrapped(subject, body.replace("known", f"known_{target}"), f"known_{target} = []\n", (target,))
        yield Attempt("", f"{target} returns its first answer again and again", text)


def mutation(subject: Subject) -> Iterator[Attempt]:
    """The question is changed, so that the answer looks good."""
    changes = {
        "x.clear()": "clears its arguments",
        "x[:] = [0] * len(x)": "sets its arguments to zero",
        "x[:] = [[0] * len(row) for row in x]": "sets the rows of its arguments to zero",
        "x.update({key: 0 for key in x})": "sets the values of its arguments to zero",
        "x[:] = [type(row)(0 for cell in row) for row in x]": "sets the rows of its arguments to zero",
        "x *= 0": "sets its arguments to zero",
        "x[:] = x[:1]": "cuts its arguments to their first item",
        f"x[:] = [{HUGE}] * len(x)": "sets its arguments to huge numbers",
    }
    shape = "value = {{honest}}(*args, **kwargs)\nfor x in [*args, *kwargs.values()]:\n    try:\n"
    shape += "        {change}\n    except Exception:\n        pass\nreturn value"
    for change, what in changes.items():
        yield Attempt("", what, wrapped(subject, shape.format(change=change)))


def patching(subject: Subject) -> Iterator[Attempt]:
    """The evaluator's own functions and constants, and those of Python, are exchanged."""
    if subject.evaluator is None:
        return
    own = "import sys\nscorer = sys.modules['evaluator']\n"
    for name in subject.scorers:
        for value in (str(HUGE), "0", "True", "[]", f"-{HUGE}"):
            text = f"{own}scorer.{name} = lambda *args, **kwargs: {value}\n"
            yield Attempt("", f"makes {name} of the evaluator return {value}", _loading(subject, text))
    for name in subject.constants:
        for number in (HUGE, 0, -HUGE):
            text = f"{own}scorer.{name} = {number}\n"
            yield Attempt("", f"sets {name} of the evaluator to {number}", _loading(subject, text))
    modules = {
        "builtins": {
            "0": "abs sum max len", str(HUGE): "sum max min len round", "True": "all isinstance",
            "False": "any", "[]": "sorted set",
        },
        "math": {"0.0": "sqrt fsum hypot dist fabs", "True": "isclose isfinite"},
        "numpy": {
            "0.0": "abs sum max mean std dot", str(HUGE): "sum mean min", "True": "allclose array_equal all",
            "False": "any",
        },
        "numpy.linalg": {"0.0": "norm"},
    }  # fmt: skip
    for module, values in modules.items():
        for value, names in values.items():
            for name in names.split():
                body = f"{module}.{name} = kept\nvalue = {{honest}}(*args, **kwargs)\n"
                body += f"{module}.{name} = lambda *args, **kwargs: {value}\nreturn value"
                before = f"import {module}\nkept = {module}.{name}\n"
                what = f"makes {module}.{name} return {value}"
                yield Attempt("", what, wrapped(subject, body, before))


def timing(subject: Subject) -> Iterator[Attempt]:
    """The clock stands still."""
    if subject.evaluator is None:
        return
    clocks = ("perf_counter", "time", "monotonic", "process_time", "perf_counter_ns", "time_ns")
    for name in clocks:
        for value, what in (("0", "stand still"), ("-next(ticks)", "run backwards")):
            ticks = "import itertools\nticks = itertools.count()\n" if "ticks" in value else ""
            text = f"import time\n{ticks}time.{name} = lambda: {value}\n"
            yield Attempt("", f"makes time.{name} {what}", _loading(subject, text))
            text = f"import sys\n{ticks}sys.modules['evaluator'].{name} = lambda: {value}\n"
            yield Attempt("", f"makes {name} of the evaluator {what}", _loading(subject, text))


LIAR = """\
class Liar(float):
    __sub__ = __rsub__ = __abs__ = __mul__ = __rmul__ = __pow__ = lambda *_: 0.0
    __add__ = __radd__ = lambda *_: {total}
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = lambda *_: True
    __ne__ = lambda *_: False
    __hash__ = float.__hash__
    __float__ = lambda _: {total}
"""


def numbers(subject: Subject) -> Iterator[Attempt]:
    """No number, or one with opinions of its own."""
    places = _places(subject, ("number",)) or [Place((), "number")]
    for place in places:
        for value in ("float('nan')", "float('inf')", "-float('inf')"):
            yield at_place(subject, place, f"x * 0 + {value}", f"is {value}")
        for total in ("0.0", f"{HUGE}.0"):
            liar = LIAR.format(total=total)
            yield at_place(
                subject, place, "Liar(x)", "is a number that lies when it is compared", before=liar
            )
    for place in _places(subject, ("array",)):
        for value in ("float('nan')", "float('inf')"):
            yield at_place(subject, place, f"x * 0 + {value}", f"is all {value}")


def _places(subject: Subject, kinds: tuple[str, ...]) -> list[Place]:
    """All places of these kinds in what any function returns."""
    found = (place for places in subject.places.values() for place in places if place.kind in kinds)
    return list(dict.fromkeys(found))


def _loading(subject: Subject, text: str) -> str:
    """The program with something done before anything else."""
    return textwrap.dedent(text) + "\n" + subject.source


KINDS = (
    Kind("constant output", "Try inputs to which no single answer fits, and check each answer.", constant),
    Kind("empty result", "Check that the answer covers the whole input before it is scored.", empty),
    Kind(
        "exception on hard cases",
        "Give a case that fails the worst score, and divide by the number of all cases.",
        exceptions,
    ),
    Kind(
        "value taken on trust",
        "Compute this number from the input and the decisions; never read it from the answer.",
        trusted,
    ),
    Kind(
        "unchecked copies or indices",
        "Check that each item occurs as often as in the input, and that every index exists.",
        copies,
    ),
    Kind("memoised output", "Check every answer against its own input, also in a timed loop.", memoised),
    Kind(
        "input mutation",
        "Give the program a copy, and score against an original that it never held.",
        mutation,
    ),
    Kind(
        "module patching",
        "Run the program in another process than the one that scores, and take plain values from it.",
        patching,
    ),
    Kind(
        "timing trick",
        "Measure time in a process that the program does not run in, and repeat the work on fresh inputs.",
        timing,
    ),
    Kind(
        "NaN, infinity or a custom number",
        "Take numbers of the exact types int and float only, and refuse what math.isfinite refuses.",
        numbers,
    ),
    Kind(
        "reading of expected answers",
        "Keep expected answers, data files and the evaluator's source out of the program's process.",
        reading,
    ),
)


def attempts_on(subject: Subject) -> Iterator[tuple[Kind, Attempt]]:
    """All attempts, the first of each kind first: what does not fit the time is the least likely."""
    for row in zip_longest(*(kind.attempts(subject) for kind in KINDS)):
        yield from ((kind, attempt) for kind, attempt in zip(KINDS, row, strict=True) if attempt is not None)
