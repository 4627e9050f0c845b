"""Puts a run together: recording, archive, pool, proposer, loop and finals."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from database.archive import Archive
from database.lock import archive_lock, server_lock
from database.records import Axis, RunRecord
from evaluators.problem import SCRIPT, Inputs, Problem
from evolve.cascade import Cascade
from evolve.finals import Finals, Unhurried, hold_finals
from evolve.loop import Loop
from evolve.problems import problem_of, seeds_of_run, task_of
from evolve.proposers import make_proposer, models_of
from evolve.settings import Settings, make_settings
from evolve.view import View
from evolve.workspace import new_directory, new_place, place_of
from kvolve import KvolveError, __version__
from sandbox.pool import LocalPool, Pool
from sandbox.task import Limits, load

INTERRUPTED = 130  # the exit code of shells for SIGINT
SLACK = 3  # times the limits of the search: for finals that do not end within these

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


def choose_recording(name: str, say: Say, progress: Progress) -> Path:
    """The recording that a setting names; `full` is made on first use, or replaced by the small one
    offline.
    """
    from evaluators.recording import SMALL_RECORDING

    if name == "small":
        return SMALL_RECORDING
    if name != "full":
        return Path(name).resolve()
    from evaluators.record_model import ensure_full_recording, full_recording_path

    if not full_recording_path().exists():
        say("Making the full recording of SmolLM2-135M-Instruct, once; it takes one to three minutes.")
    try:
        return ensure_full_recording(progress).path
    except KvolveError as error:
        say(
            f"The full recording cannot be made: {error} Going on with the small one, whose figures are "
            f"coarser."
        )
        return SMALL_RECORDING


def inputs_of(problem: Problem, settings: Settings, view: View) -> Inputs:
    """The workloads of a run. Raises KvolveError for a recording that cannot be used."""
    if problem.name == SCRIPT:
        from evolve.script import inputs_of_files

        return inputs_of_files(settings)
    asked = (settings.model, tuple(map(Path, settings.text)), settings.prefill)
    if any(asked) and not problem.prepared:
        raise KvolveError(
            f"{problem.name} takes no --model, --text or --prefill; kvolve record has them, and --recording "
            "takes what it makes."
        )
    recording = None
    if problem.recorded:
        recording = choose_recording(settings.recording, view.say, view.progress)
    elif problem.prepared:
        prepare = load(problem.prepared)
        recording = prepare(settings.recording, *asked, say=view.say, progress=view.progress)
    inputs = problem.inputs(recording)
    if not settings.goals:
        return inputs
    if problem.with_goals is None:
        raise KvolveError(
            f"{problem.name} has no goals, but {settings.goals[0]!r} was given. Leave out --goal."
        )
    return problem.with_goals(inputs, settings.goals)


def tried_out(settings: Settings, say: Say) -> Settings:
    """The settings of a new run with what has to be found out before it: for a script, how it is evaluated.

    Raises KvolveError where its initial program gets no score.
    """
    if settings.problem != SCRIPT:
        return settings
    from evolve.script import try_out

    return try_out(settings, limits_of(settings), say)


def create_archive(settings: Settings, problem: Problem, inputs: Inputs, directory: Path) -> Archive:
    """A new archive where the run directory keeps it, with everything that `resume` needs."""
    record = RunRecord(
        problem=problem.name,
        settings_json=json.dumps({"settings": settings.model_dump(), "splits": dict(inputs.splits)}),
        seed=settings.seed,
        axes=tuple(Axis(d.name, d.low, d.high, d.bins) for d in problem.descriptors),
        islands=settings.islands,
        migration_interval=settings.migration_interval,
        centroids=_centroids(settings, problem),
        kvolve_version=__version__,
    )
    return Archive.create(place_of(directory), record)


def _centroids(settings: Settings, problem: Problem) -> tuple[tuple[float, ...], ...]:
    if settings.cvt_cells is None:
        return ()
    from evolve.cells import centroids

    return centroids(settings.cvt_cells, len(problem.descriptors), settings.seed)


@dataclass(frozen=True)
class Session:
    """One stretch of work on a run: from `run` or `resume` until it is done, stopped or killed."""

    settings: Settings
    problem: Problem
    inputs: Inputs
    archive: Archive
    directory: Path
    view: View

    def conduct(self) -> Finals | None:
        """Evaluates what is pending, searches, and holds the finals; None if it was stopped before."""
        try:
            return asyncio.run(self._conduct())
        finally:
            self.archive.close()

    async def _conduct(self) -> Finals | None:
        async with AsyncExitStack() as on_exit:
            pool = await open_pool(self.settings, self.problem, self.inputs)
            on_exit.push_async_callback(pool.close)
            cascade = Cascade(self.problem, self.inputs, self.archive, pool)
            proposer = make_proposer(self.settings, self.problem, self.archive, self.directory, self.view.say)
            on_exit.push_async_callback(proposer.close)
            loop = Loop(self.settings, cascade, self.archive, proposer, self.view.observe)
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, _interrupt, loop, self.view)
            self.view.begin(self.settings, self.inputs.summary, self.directory, self.archive)
            self.archive.add_event("start", f"kvolve {__version__}, {self.settings.workers} workers")
            with self.view:
                await loop.run()
            if loop.stopping:
                self.view.say(f"Stopped. `kvolve resume {self.directory}` goes on.")
                return None
            if loop.reason is not None:
                self.view.say(loop.reason)
            measuring = Unhurried(cascade, partial(self._slower, on_exit))
            finals = await hold_finals(
                measuring, self.archive, self.settings.finalists, self.problem.floors, self.view.say
            )
            self.view.conclude()
            return finals

    async def _slower(self, on_exit: AsyncExitStack) -> Cascade:
        """A cascade with wider limits, whose pool is closed `on_exit`."""
        wider = {"wall_s": SLACK * self.settings.wall_s, "cpu_s": SLACK * self.settings.cpu_s}
        pool = await open_pool(self.settings.model_copy(update=wider), self.problem, self.inputs)
        on_exit.push_async_callback(pool.close)
        return Cascade(self.problem, self.inputs, self.archive, pool)


def start(
    settings: Settings, run_dir: Path | None, view: View, database: str | None = None
) -> tuple[Path, Finals | None]:
    """A new run, from its first seed to the holdout figure; returns its directory, too.

    Its archive is a file there, or in the `database` of that URL. Nothing is written before the settings and
    the recording have proved good.
    """
    models_of(settings)
    settings = tried_out(settings, view.say)
    problem = problem_of(settings)
    seeds_of_run(problem, settings)  # refuses a name that there is not, before anything is written
    inputs = inputs_of(problem, settings, view)
    directory = new_directory(run_dir, settings.problem)
    with archive_lock(directory), ExitStack() as locks:
        with new_place(directory, database) as url:
            locks.enter_context(server_lock(url))
            archive = create_archive(settings, problem, inputs, directory)
        return directory, Session(settings, problem, inputs, archive, directory, view).conduct()


def resume(directory: Path, changed: dict[str, Any], view: View) -> Finals | None:
    """Goes on with a run: evaluates what was pending, then as `start`. `changed` settings replace the old
    ones.
    """
    url = place_of(directory)
    with archive_lock(directory), server_lock(url):
        archive = Archive.open(url)
        stored = json.loads(archive.run.settings_json)
        settings = make_settings(stored["settings"] | changed)
        problem = problem_of(settings)
        inputs = inputs_of(problem, settings, view)
        if dict(inputs.splits) != stored["splits"]:
            archive.close()
            raise KvolveError(
                f"The data of {settings.problem} are not those that {directory} was run on. Bring those back "
                f"({_origin(settings)}), or start a new run."
            )
        return Session(settings, problem, inputs, archive, directory, view).conduct()


def _origin(settings: Settings) -> str:
    if settings.problem == SCRIPT:
        return f"{settings.initial}, {settings.evaluator}{''.join(f', {path}' for path in settings.data)}"
    return f"the recording was {settings.recording!r}"


def _interrupt(loop: Loop, view: View) -> None:
    """Ctrl-C: the first one finishes what is under way, a second one stops at once."""
    loop.stop()
    view.say("Stopping after what is under way; press Ctrl-C again to stop at once.")
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, _leave, view)


def _leave(view: View) -> None:
    """As `kill -9` would: nothing that is committed is lost, and workers end with their driver."""
    view.__exit__(None, None, None)
    view.say("Stopped at once. `kvolve resume` goes on.")
    sys.stdout.flush()
    os._exit(INTERRUPTED)


def limits_of(settings: Settings) -> Limits:
    """What one process of one stage may use."""
    memory_bytes = int(settings.memory_gib * 2**30)
    return Limits(wall_s=settings.wall_s, cpu_s=settings.cpu_s, memory_bytes=memory_bytes)


async def open_pool(settings: Settings, problem: Problem, inputs: Inputs) -> Pool:
    """The pool that the settings ask for, started."""
    if problem.name == SCRIPT:
        from evolve.script import sandboxes_of

        task = sandboxes_of(settings, problem, inputs)
    else:
        task = task_of(problem, inputs)
    limits = limits_of(settings)
    if settings.pool == "ray":
        from sandbox.ray_pool import RayPool

        pool: Pool = RayPool(
            task,
            settings.workers,
            limits,
            settings.unsafe_sandbox,
            address=settings.ray_address,
            cpus_per_worker=settings.cpus_per_worker,
            gpus_per_worker=settings.gpus_per_worker,
        )
    else:
        pool = LocalPool(task, settings.workers, limits, settings.unsafe_sandbox)
    await pool.start()
    return pool
