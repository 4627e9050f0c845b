"""`kvolve audit`: tries to cheat an evaluator. Everything heavy is imported where it is needed."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from evaluators.problem import SCRIPT
from evolve.run_command import AllowPackage, Config, Data, Network
from kvolve import KvolveError

INITIAL = "initial_program.py"


def audit(
    what: Annotated[
        str, typer.Argument(metavar="EVALUATOR.py|PROBLEM", help="The file whose evaluate() scores programs.")
    ],
    initial: Annotated[
        str | None,
        typer.Argument(metavar="[INITIAL.py]", help=f"A program; by default {INITIAL} beside the evaluator."),
    ] = None,
    config: Config = None,
    allow_package: AllowPackage = None,
    data: Data = None,
    network: Network = None,
    unsafe_sandbox: Annotated[
        bool, typer.Option("--unsafe-sandbox", help="Run where namespaces are refused, without isolation.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Tries to cheat an evaluator before a run does, and shows the programs that pay; exits with 1 if any do.

    Example: kvolve audit example/evaluator.py
    """
    from evolve.audit import report

    given: dict[str, Any] = {"unsafe_sandbox": unsafe_sandbox}
    if what.endswith(".py"):
        files = {
            "config": config,
            "data": data or [],
            "allow_packages": allow_package or [],
            "network": network,
        }
        initial = initial or str(Path(what).parent / INITIAL)
        found = _of_script(given | files | {"initial": initial, "evaluator": what})
    else:
        if initial or config or data or allow_package or network:
            raise KvolveError(f"{what} is no EVALUATOR.py: a problem of kvolve is audited without files.")
        found = _of_problem(what, given)
    print(report.as_json(found) if as_json else report.as_text(found, what))
    if found.holes:
        raise typer.Exit(1)


def _of_script(given: dict[str, Any]) -> Any:
    from evolve.audit.audit import audit_script
    from evolve.script_config import with_files
    from evolve.settings import make_settings

    given = {name: value for name, value in given.items() if value is not None}
    given = with_files({"problem": SCRIPT} | given, lambda text: print(text, file=sys.stderr))
    given.pop("models", None)  # nobody is asked
    return audit_script(make_settings(given))


def _of_problem(name: str, given: dict[str, Any]) -> Any:
    from evaluators.problem import get_problem
    from evolve.audit.audit import audit_problem
    from evolve.settings import make_settings

    return audit_problem(get_problem(name), make_settings({"problem": name} | given))
