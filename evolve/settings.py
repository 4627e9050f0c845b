"""Everything that can be said about a run: by flag, or in a preset TOML with the same names."""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluators.problem import SCRIPT
from evolve.llm.settings import LLM, Model
from kvolve import KvolveError

PROPOSERS = ("inbox", "builtin", "llm")
REPLAY = "replay:"  # before the name of the run whose transcript is the proposer


class Settings(BaseModel):
    """The settings of one run; the defaults are the embedded ones that `kvolve run PROBLEM` uses."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    problem: str
    seed: int = Field(0, ge=0, lt=2**63, description="of every random choice")
    max_evaluations: int = Field(400, ge=1, description="proposals in all, seeds and bounds among them")
    max_minutes: float | None = Field(None, gt=0, description="no new proposal after this time")
    max_tokens: int | None = Field(None, gt=0, description="of all proposals, in and out")
    max_cost: float | None = Field(None, gt=0, description="of all proposals, in USD")
    target_score: float | None = Field(None, description="of the best candidate, on the search split")
    stagnation: int | None = Field(None, ge=1, description="evaluations without a new best or a new cell")
    recording: str = Field("full", description="full, small, or a folder made by `kvolve record`")
    model: str = Field("", description="of kv_eviction: its language model, as of `kvolve record`")
    text: tuple[str, ...] = Field((), description="of kv_eviction: files to search on, in place of its own")
    prefill: int | None = Field(None, ge=64, description="of kv_eviction: tokens of a context")
    start_with: tuple[str, ...] = Field((), description="the seeds to begin with, by name; by default all")

    goals: tuple[str, ...] = Field(
        (), description="of verified_selection: EPSILON,DELTA or EPSILON,DELTA,QUANTITY each"
    )

    initial: str | None = Field(None, description="of a script: the program to begin with")
    evaluator: str | None = Field(None, description="of a script: the file with evaluate(program_path)")
    config: str | None = Field(None, description="of a script: the config.yaml that was read")
    allow_packages: tuple[str, ...] = Field((), description="of a script: besides numpy")
    data: tuple[str, ...] = Field((), description="of a script: files and folders that its evaluator reads")
    network: bool = Field(False, description="of a script: whether its evaluator has the network")
    cascade_thresholds: tuple[float, ...] = Field(
        (), description="of a script: between evaluate_stage1, 2, 3"
    )
    instructions: str = Field("", description="of a script: what a model is told besides")
    processes: Literal[1, 2] = Field(2, description="of a script: program and evaluator apart, or together")
    noisy: bool = Field(False, description="of a script: whether its initial program has no fixed score")

    islands: int = Field(2, ge=1, le=64)
    strategy: Literal["map_elites", "best_of_n", "random_restart", "hill_climb"] = "map_elites"
    selection: Literal["rank", "uniform", "curiosity"] = Field(
        "rank", description="how MAP-Elites chooses a parent in an island"
    )
    cvt_cells: int | None = Field(None, ge=2, le=10_000, description="cells of equal size instead of bins")
    migration_interval: int = Field(60, ge=0, description="evaluations between two migrations; 0 means never")
    deterministic: bool = Field(True, description="results enter the archive in the order of their proposals")
    look_ahead: int = Field(8, ge=1, le=1024, description="proposals under way at a time")
    finalists: int = Field(
        8, ge=1, description="best candidates, and best seeds, that are measured on validation"
    )

    workers: int = Field(2, ge=1, le=1024)
    pool: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    cpus_per_worker: float = Field(1, gt=0, description="reserved at Ray")
    gpus_per_worker: float = Field(0, ge=0, description="reserved at Ray; with a fraction, workers share one")
    proposer: str = Field("builtin", description="builtin, llm, inbox, or replay:RUN")
    models: tuple[Model, ...] = Field((), description="of the proposer llm")
    llm: LLM = LLM()
    wall_s: float = Field(20.0, gt=0, description="limit of one stage of one candidate")
    cpu_s: int = Field(15, gt=0)
    memory_gib: float = Field(2.0, gt=0)
    unsafe_sandbox: bool = False


def load_preset(path: Path) -> dict[str, Any]:
    """The settings that a preset TOML gives. Raises KvolveError for an unreadable or malformed file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KvolveError(f"The preset {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KvolveError(f"The preset {path} is not valid TOML: {error}. See runs/ for examples.") from error


def make_settings(given: dict[str, Any]) -> Settings:
    """Checked settings. Raises KvolveError that names the first wrong one and what is allowed."""
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            tables: dict[Any, type[BaseModel]] = {"models": Model, "llm": LLM}
            known = ", ".join(tables.get(first["loc"][0], Settings).model_fields)
            raise KvolveError(f"There is no setting {name!r}. Known settings: {known}.") from error
        if first["type"] == "missing":
            raise KvolveError(f"The setting {name!r} is missing. Add it to the preset.") from error
        raise KvolveError(f"The setting {name!r} is {first['input']!r}: {first['msg']}.") from error
    _check_resources(settings)
    wanted = 2 if settings.problem == SCRIPT else 0
    if sum(file is not None for file in (settings.initial, settings.evaluator)) != wanted:
        raise KvolveError(
            "A program and an evaluator go together, and with no other problem. Start with kvolve run "
            "INITIAL.py EVALUATOR.py, or with kvolve run PROBLEM."
        )
    if settings.proposer not in PROPOSERS and not settings.proposer.startswith(REPLAY):
        raise KvolveError(
            f"The setting 'proposer' is {settings.proposer!r}; {', '.join(PROPOSERS)} and replay:RUN are "
            "allowed."
        )
    if settings.proposer == "inbox" and settings.llm.k > 1:
        raise KvolveError(
            f"The setting 'llm.k' is {settings.llm.k}, but an inbox asks for each reply once. Leave it at 1."
        )
    return settings


def _check_resources(settings: Settings) -> None:
    """Raises KvolveError for what a pool cannot give its workers."""
    for name in ("cpus_per_worker", "gpus_per_worker"):
        asked, usual = getattr(settings, name), Settings.model_fields[name].default
        if settings.pool == "local" and asked != usual:
            raise KvolveError(
                f"The setting {name!r} is {asked:g}, but only Ray reserves CPUs and GPUs for a worker. Take "
                f"--pool ray, or leave it at {usual}."
            )
        if asked > 1 and not asked.is_integer():
            raise KvolveError(f"The setting {name!r} is {asked:g}: above 1, Ray takes whole numbers only.")
