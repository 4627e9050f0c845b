"""The command line. Everything heavy is imported by the command that needs it."""

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from evolve.inbox_command import inbox
from evolve.record_command import record
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
Plain = Annotated[bool, typer.Option("--plain", help="No live view; also without a terminal.")]
Evaluations = Annotated[int | None, typer.Option(metavar="N", help="Proposals in all, seeds among them.")]
Minutes = Annotated[float | None, typer.Option(metavar="M", help="No new proposal after M minutes.")]
Tokens = Annotated[int | None, typer.Option(metavar="N", help="Tokens of all proposals, in and out.")]
Cost = Annotated[float | None, typer.Option(metavar="USD", help="Cost of all proposals.")]
Target = Annotated[float | None, typer.Option(metavar="SCORE", help="Ends the run when the best reaches it.")]
Stagnation = Annotated[
    int | None, typer.Option(metavar="N", help="Ends the run after N evaluations without a find.")
]
Workers = Annotated[int | None, typer.Option(metavar="W", help="Sandbox workers.")]
Pool = Annotated[str | None, typer.Option(metavar="local|ray", help="Where the workers run.")]
RayAddress = Annotated[str | None, typer.Option(metavar="A", help="Join the Ray cluster at this address.")]
CpusPerWorker = Annotated[float | None, typer.Option(metavar="C", help="CPUs of a worker, with Ray.")]
GpusPerWorker = Annotated[
    float | None, typer.Option(metavar="G", help="GPUs of a worker, with Ray; 0.25 lets four share a card.")
]
Unsafe = Annotated[
    bool | None, typer.Option("--unsafe-sandbox", help="Run where namespaces are refused, without isolation.")
]


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


@app.command()
def run(
    what: Annotated[
        str, typer.Argument(metavar="PROBLEM|PRESET.toml", help="A problem, or a preset that names one.")
    ],
    run_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the run is kept.")] = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Keep its archive in postgresql://USER@HOST/NAME (in a schema called after DIR, or by "
            "?schema=NAME) or sqlite:///FILE. A password may be in PGPASSWORD, in ~/.pgpass, or in the URL, "
            "which DIR keeps.",
        ),
    ] = None,
    max_evaluations: Evaluations = None,
    max_minutes: Minutes = None,
    max_tokens: Tokens = None,
    max_cost: Cost = None,
    target_score: Target = None,
    stagnation: Stagnation = None,
    seed: Annotated[int | None, typer.Option(metavar="S", help="Seed of every random choice.")] = None,
    recording: Annotated[
        str | None,
        typer.Option(metavar="full|small|DIR", help="What to search on; DIR is made by `kvolve record`."),
    ] = None,
    workers: Workers = None,
    pool: Pool = None,
    ray_address: RayAddress = None,
    cpus_per_worker: CpusPerWorker = None,
    gpus_per_worker: GpusPerWorker = None,
    proposer: Annotated[
        str | None, typer.Option(metavar="builtin|llm|inbox|replay:RUN", help="Who makes new candidates.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(metavar="S", help="map_elites, best_of_n, random_restart or hill_climb."),
    ] = None,
    selection: Annotated[
        str | None, typer.Option(metavar="S", help="Parents of map_elites: rank, uniform or curiosity.")
    ] = None,
    unsafe_sandbox: Unsafe = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the first prompts and what a run may take; ask no model."),
    ] = False,
    plain: Plain = False,
) -> None:
    """Starts a discovery run.

    Example: kvolve run token_selection --max-evaluations 400 --seed 1
    """
    flags = _given(locals())
    from evolve.proposers import with_proposer_defaults
    from evolve.run import start
    from evolve.settings import load_preset, make_settings
    from evolve.view import make_view

    preset: dict[str, Any] = load_preset(Path(what)) if what.endswith(".toml") else {"problem": what}
    given = preset | flags
    database = str(given.pop("database", "")) or None
    settings = make_settings(with_proposer_defaults(given))
    if dry_run:
        from evolve.dry_run import show_first_prompts

        show_first_prompts(settings, make_view(plain=True))
        return
    _finish(*start(settings, run_dir, make_view(plain), database))


@app.command()
def resume(
    run: RunName,
    max_evaluations: Evaluations = None,
    max_minutes: Minutes = None,
    max_tokens: Tokens = None,
    max_cost: Cost = None,
    target_score: Target = None,
    stagnation: Stagnation = None,
    workers: Workers = None,
    pool: Pool = None,
    ray_address: RayAddress = None,
    cpus_per_worker: CpusPerWorker = None,
    gpus_per_worker: GpusPerWorker = None,
    unsafe_sandbox: Unsafe = None,
    plain: Plain = False,
) -> None:
    """Goes on with a run that was stopped or killed; nothing that was paid for is lost.

    Example: kvolve resume runs/token_selection-001 --max-evaluations 800
    """
    flags = _given(locals())
    from evolve.run import resume as go_on
    from evolve.view import make_view
    from evolve.workspace import find_directory

    directory = find_directory(run)
    _finish(directory, go_on(directory, flags, make_view(plain)))


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
    from evaluators.problem import get_problem
    from evolve import inspect as views
    from evolve.workspace import open_run

    _, archive = open_run(run)
    problem = get_problem(archive.run.problem)
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
    from evaluators.problem import get_problem
    from evolve.export import LIBRARY
    from evolve.export import export as write
    from evolve.finals import read_finals
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
    problem = get_problem(archive.run.problem)
    folder = write(archive, problem, archive.candidate(wanted), library or LIBRARY)
    print(f"exported to {folder}")


app.command()(inbox)


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """The settings among the flags of a command that were given; flags are named like settings."""
    others = ("what", "run", "run_dir", "plain", "dry_run")
    return {name: value for name, value in flags.items() if name not in others and value is not None}


def _finish(directory: Path, finals: Any) -> None:
    """Prints the finals and where to look next."""
    from evaluators.problem import get_problem
    from evolve.inspect import show_finals
    from evolve.workspace import open_run

    if finals is None:
        return
    _, archive = open_run(str(directory))
    show_finals(_console(), get_problem(archive.run.problem), finals)
    command = "kvolve" if shutil.which("kvolve") else sys.argv[0]  # `make demo` leaves the path as it was
    print(f"\nLook next:  {command} inspect {directory}")
    print(f"            {command} inspect {directory} {finals.champion.hash[:12]}")
    print(f"            {command} export {directory} champion --to library")


def _console() -> Any:
    from evolve.view import make_console

    return make_console()
