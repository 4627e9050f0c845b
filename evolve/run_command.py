"""`kvolve run` and `kvolve resume`. Everything heavy is imported where it is needed."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from evaluators.problem import SCRIPT

RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, or its name in runs/.")]
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

Config = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="A peer's config.yaml; by default the one beside EVALUATOR.py."),
]
AllowPackage = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A package that program and evaluator may import; repeatable."),
]
Data = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH", help="A file or folder that the evaluator may read; repeatable."),
]
Network = Annotated[
    bool | None,
    typer.Option("--network", help="Let the evaluator use the network; the program never has it."),
]


def run(
    what: Annotated[
        str,
        typer.Argument(
            metavar="PROBLEM|PRESET.toml|INITIAL.py", help="A problem, a preset that names one, or a program."
        ),
    ],
    evaluator: Annotated[
        str | None,
        typer.Argument(metavar="[EVALUATOR.py]", help="With a program: the file whose evaluate() scores it."),
    ] = None,
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
    start_with: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Seeds to begin with, with commas; by default all.")
    ] = None,
    goal: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EPSILON,DELTA",
            help="Of verified_selection: what is guaranteed, with ,numerator or ,denominator if not of the "
            "output; repeatable. By default 0.05,0.05 0.1,0.1 0.2,0.2.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="M", help="Of kv_eviction: the model, as of `kvolve record`.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Of kv_eviction: texts to search on; three or more, repeatable."),
    ] = None,
    prefill: Annotated[
        int | None, typer.Option(metavar="N", help="Of kv_eviction: tokens of a context; 2048 by default.")
    ] = None,
    config: Config = None,
    allow_package: AllowPackage = None,
    data: Data = None,
    network: Network = None,
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
    """Starts a discovery run, on a problem of kvolve or on a program and an evaluator of your own.

    Example: kvolve run token_selection --max-evaluations 400 --seed 1
    Example: kvolve run initial_program.py evaluator.py
    """
    flags = _given(locals())
    from evolve.proposers import with_proposer_defaults
    from evolve.run import start
    from evolve.settings import load_preset, make_settings
    from evolve.view import make_view

    if "allow_package" in flags:
        flags["allow_packages"] = flags.pop("allow_package")
    if "goal" in flags:
        flags["goals"] = flags.pop("goal")
    if "start_with" in flags:
        flags["start_with"] = [name.strip() for name in flags["start_with"].split(",") if name.strip()]
    given = _named(what, load_preset) | flags
    view = make_view(plain)
    if given.get("problem") == SCRIPT:
        from evolve.script_config import with_files

        given = with_files(given, view.say)
    database = str(given.pop("database", "")) or None
    settings = make_settings(with_proposer_defaults(given))
    if dry_run:
        from evolve.dry_run import show_first_prompts

        show_first_prompts(settings, make_view(plain=True))
        return
    _finish(*start(settings, run_dir, view, database))


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


def _named(what: str, load_preset: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The settings that the first argument stands for."""
    if what.endswith(".toml"):
        return load_preset(Path(what))
    if what.endswith(".py"):
        return {"problem": SCRIPT, "initial": what}
    return {"problem": what}


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """The settings among the flags of a command that were given; flags are named like settings."""
    others = ("what", "run", "run_dir", "plain", "dry_run")
    return {name: value for name, value in flags.items() if name not in others and value is not None}


def _finish(directory: Path, finals: Any) -> None:
    """Prints the finals and where to look next."""
    from evolve.inspect import show_finals
    from evolve.problems import problem_of_run
    from evolve.view import make_console
    from evolve.workspace import open_run

    if finals is None:
        return
    _, archive = open_run(str(directory))
    show_finals(make_console(), problem_of_run(archive), finals)
    command = "kvolve" if shutil.which("kvolve") else sys.argv[0]  # `make demo` leaves the path as it was
    print(f"\nLook next:  {command} inspect {directory}")
    print(f"            {command} inspect {directory} {finals.champion.hash[:12]}")
    print(f"            {command} export {directory} champion --to library")
