"""How a hostile program is written: the honest one, and functions that take the places of its own."""

import re
import textwrap
from dataclasses import dataclass

from evolve.audit.subject import Place, Subject


@dataclass(frozen=True)
class Attempt:
    """One hostile program. Of attempts with the same key, one that pays is enough."""

    key: str
    what: str
    source: str


def replaced(subject: Subject, body: str) -> str:
    """The program with other functions in the places of those that are called."""
    return subject.source + "".join(_function(name, body) for name in subject.functions)


def wrapped(subject: Subject, body: str, before: str = "", names: tuple[str, ...] = ()) -> str:
    """The program with functions around its own, which the body calls as `{honest}`."""
    text = subject.source
    for name in names or subject.functions:
        text = re.sub(rf"^def {name}\(", f"def honest_{name}(", text, flags=re.MULTILINE)
    text += "\n\n" + before
    for name in names or subject.functions:
        text += _function(name, body.replace("{honest}", f"honest_{name}"))
    return text


def at_place(
    subject: Subject, place: Place, change: str, what: str, *, key: str = "", before: str = ""
) -> Attempt:
    """An attempt that changes one place of what is returned; `change` is an expression of `x`."""
    names = tuple(name for name, places in subject.places.items() if place in places) or subject.functions
    if place.path:
        before += _changing(place, change)
        body = "return changed({honest}(*args, **kwargs))"
    else:
        body = f"x = {{honest}}(*args, **kwargs)\nreturn {change}"
    return Attempt(key, f"{place} {what}", wrapped(subject, body, before, names))


def _changing(place: Place, change: str) -> str:
    """A function `changed(value)` that changes what lies at a place."""
    expression, depth = change, len(place.path)
    lines: list[str] = []
    for level, step in reversed(list(enumerate(place.path))):
        name = "changed" if level == 0 else f"changed_{level}"
        if level == depth - 1:
            lines += ["def change(x):", f"    return {expression}", ""]
        inner = "change" if level == depth - 1 else f"changed_{level + 1}"
        lines.append(f"def {name}(x):")
        if step is None:
            lines.append("    if isinstance(x, dict):")
            lines.append(f"        return {{key: {inner}(part) for key, part in x.items()}}")
            lines.append(f"    return type(x)([{inner}(part) for part in x])")
        elif isinstance(step, str):
            lines.append(f"    return x | {{{step!r}: {inner}(x[{step!r}])}}")
        else:
            lines.append("    parts = list(x)")
            lines.append(f"    parts[{step}] = {inner}(parts[{step}])")
            lines.append("    return type(x)(parts)")
        lines.append("")
    return "\n".join(lines) + "\n"


def _function(name: str, body: str) -> str:
    return f"\n\ndef {name}(*args, **kwargs):\n{textwrap.indent(body, '    ')}\n"
