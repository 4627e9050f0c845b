"""How the findings of an audit are told."""

import json
import textwrap
from dataclasses import asdict

from evolve.audit.audit import Audit, Hole


def as_json(audit: Audit) -> str:
    """The findings for a program to read."""
    return json.dumps(asdict(audit), indent=1)


def as_text(audit: Audit, name: str) -> str:
    """The findings for a person to read."""
    lines = [f"{name}: the honest program scores {audit.honest:.6g}."]
    lines += [part for hole in audit.holes for part in _hole(hole)]
    tried = f"{audit.attempts} attempts in {audit.seconds:.0f} s"
    if audit.refused:
        tried += f", and {audit.refused} that the screen refused"
    if not audit.complete:
        tried += "; there was no time for the others"
    found = len(audit.holes)
    result = "No attempt pays" if not found else "1 hole" if found == 1 else f"{found} holes"
    return "\n".join([*lines, f"{result} ({tried})."])


def _hole(hole: Hole) -> list[str]:
    in_a_run = {
        True: "A run stops it: the candidate has a process of its own there.",
        False: "A run does not stop it.",
        None: "In a run it could do the same: this evaluator works in one process with the program only.",
    }
    return [
        "",
        f"HOLE: {hole.kind}. It scores {hole.score:.6g}, the honest program {hole.honest:.6g}.",
        f"  The program {_told(hole.what)}.",
        f"  {in_a_run[hole.stopped]}",
        f"  Check instead: {hole.check}",
        textwrap.indent(hole.program.strip(), "    | ", lambda _: True),
        "",
    ]


def _told(what: str) -> str:
    return f"sees to it that {what}" if what.startswith("the ") else what
