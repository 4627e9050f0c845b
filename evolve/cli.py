"""The command line. Everything heavy is imported by the command that needs it."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from evolve.audit_command import audit
from evolve.inbox_command import inbox
from evolve.record_command import record
from evolve.run_command import resume, run
from evolve.verify_command import verify
from kvolve import KvolveError, __version__

app = typer.Typer(
    name="kvolve",
    help="Discovers attention and cache algorithms: launch runs, inspect what was found, export the winners.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or its name in runs/.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def main() -> None:
    """The `kvolve` command: prints a KvolveError without a traceback and exits with its code."""
    try:
        app()
    except KvolveError as error:
        print(f"kvolve: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def version(wanted: bool) -> None:
    """Prints the version."""
    if wanted:
        print(f"kvolve {__version__}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(run)
app.command()(resume)


@app.command()
def inspect(
    run: RunName,
    candidate: Annotated[
        str | None, typer.Argument(metavar="[CANDIDATE]", help="First digits of its hash.")
    ] = None,
    top: Annotated[int, typer.Option(help="Discoveries on the leaderboard.", min=1)] = 10,
    hash: Annotated[bool, typer.Option("--hash", help="Print the archive's content hash only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Shows what a run has found, or everything about one candidate.

    Example: kvolve inspect runs/token_selection-001 4f2a
    """
    from evolve import inspect as views
    from evolve.problems import problem_of_run
    from evolve.workspace import open_run

    _, archive = open_run(run)
    problem = problem_of_run(archive)
    if hash:
        print(archive.content_hash())
    elif candidate is not None:
        found = archive.candidate(candidate)
        if as_json:
            print(json.dumps(views.candidate_as_json(archive, found), indent=1))
        else:
            views.show_candidate(_console(), archive, found)
    elif as_json:
        print(json.dumps(views.run_as_json(archive, problem), indent=1))
    else:
        views.show_run(_console(), archive, problem, top)


@app.command(context_settings={"ignore_unknown_options": True})  # `--with` stands between the runs
def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="A B | A1 A2 ... --with B1 B2 ...", help="Two runs, or two sides.")
    ],
    as_json: AsJson = False,
) -> None:
    """Compares the champions of two runs, or of several runs a side, with a 95% interval.

    Example: kvolve compare runs/mine runs/other
    """
    from evolve import compare as views

    if "--with" in runs:
        middle = runs.index("--with")
        first, second = runs[:middle], runs[middle + 1 :]
    else:
        first, second = runs[:1], runs[1:]
        if len(runs) > 2:
            raise KvolveError("More than two runs were given. Put --with between those of the two sides.")
    if not first or not second:
        raise KvolveError("A comparison needs two sides. Give two runs, or put --with between several.")
    comparison = views.compare(first, second)
    if as_json:
        print(json.dumps(views.comparison_as_json(comparison), indent=1))
    else:
        views.show_comparison(_console(), comparison)


@app.command()
def problems(
    problem: Annotated[str | None, typer.Argument(metavar="[PROBLEM]")] = None, as_json: AsJson = False
) -> None:
    """Lists the problems, or shows one: its interface, score, descriptors and seeds.

    Example: kvolve problems token_selection
    """
    from evaluators.problem import get_problem
    from evolve import problems as views

    found = None if problem is None else get_problem(problem)
    if as_json:
        described = views.problems_as_json() if found is None else views.problem_as_json(found)
        print(json.dumps(described, indent=1))
    elif found is None:
        views.show_problems()
    else:
        views.show_problem(found)


app.command()(record)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Checks that this machine can run kvolve, and which protections of the sandbox are active.

    Example: kvolve doctor
    """
    from evolve.doctor import examine

    findings = examine()
    if as_json:
        print(json.dumps([vars(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            mark = "ok     " if finding.ok else "MISSING" if finding.fatal else "-      "
            print(f"{mark}  {finding.name}: {finding.detail}")
    if any(finding.fatal and not finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def export(
    run: RunName,
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE|champion", help="First digits of its hash.")],
    to: Annotated[str, typer.Option(metavar="TARGET", help="Where it goes: library.")] = "library",
    library: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Another folder than kernels/library.")
    ] = None,
) -> None:
    """Writes a candidate as a file that stands alone, with its provenance.

    Example: kvolve export runs/token_selection-001 champion --to library
    """
    from evolve.export import LIBRARY
    from evolve.export import export as write
    from evolve.finals import read_finals
    from evolve.problems import problem_of_run
    from evolve.workspace import open_run

    if to != "library":
        raise KvolveError(f"There is no export target {to!r}. Known targets: library.")
    directory, archive = open_run(run)
    wanted = candidate
    if candidate == "champion":
        finals = read_finals(archive)
        if finals is None:
            raise KvolveError(
                f"{directory} has no champion yet. `kvolve resume {directory}` finishes the run."
            )
        wanted = finals.champion.hash
    problem = problem_of_run(archive)
    folder = write(archive, problem, archive.candidate(wanted), library or LIBRARY)
    print(f"exported to {folder}")


app.command()(inbox)
app.command()(audit)
app.command()(verify)


def _console() -> Any:
    from evolve.view import make_console

    return make_console()
