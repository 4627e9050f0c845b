"""Takes a discovery out of a run: one file that stands alone, and where it comes from."""

import hashlib
import importlib
import inspect
import json
import platform
import shutil
from pathlib import Path
from typing import Any

from database.archive import Archive
from database.records import Candidate
from evaluators.problem import ROOT, Problem
from evolve.finals import read_finals
from evolve.inspect import candidate_as_json, run_as_json
from kvolve import KvolveError, __version__
from sandbox.task import load

LIBRARY = ROOT / "kernels" / "library"


def export(archive: Archive, problem: Problem, candidate: Candidate, library: Path) -> Path:
    """Writes `<library>/<problem>_<hash>/policy.py` and `provenance.json`; returns the folder.

    What a policy has learnt before is beside it: tensors `<layer>.<part>`, for its `calibrate`. A candidate
    that stands alone is called `program.py`, and is what it was.

    Raises KvolveError for a candidate without a score, one that is exported already, or a library that
    cannot be written.
    """
    if candidate.evaluation is None or candidate.evaluation.score is None:
        raise KvolveError(
            f"Candidate {candidate.hash[:12]} has no score, so there is nothing to export. "
            "`kvolve inspect RUN` lists those that have one."
        )
    folder = library / f"{problem.name}_{candidate.hash[:12]}"
    text = standalone(problem, candidate)
    beside = files_beside(archive, problem, candidate)
    try:
        folder.mkdir(parents=True)
        (folder / ("policy.py" if problem.standalone else "program.py")).write_text(text, encoding="utf-8")
        for file in beside:
            shutil.copy(file, folder)
        (folder / "provenance.json").write_text(
            json.dumps(provenance(archive, problem, candidate, text), indent=1) + "\n", encoding="utf-8"
        )
    except FileExistsError as error:
        raise KvolveError(f"{folder} exists already. Remove it to export the candidate again.") from error
    except OSError as error:
        raise KvolveError(
            f"{folder} cannot be written ({error.strerror}). Choose another --library."
        ) from error
    return folder


def standalone(problem: Problem, candidate: Candidate) -> str:
    """The candidate's source behind what it needs to run without this project."""
    if not problem.standalone:  # a program that stands alone as it is
        return candidate.source
    module = importlib.import_module(problem.standalone)
    classes = [getattr(module, name) for name in module.__all__]
    needed = "\n\n".join(inspect.getsource(cls) for cls in classes)
    return (
        f'"""Discovered by kvolve {__version__}: problem {problem.name}, candidate {candidate.hash}.\n\n'
        "See provenance.json for its figures and its origin. The classes before the policy are the "
        "interface that it is\n"
        'written against, without metering.\n"""\n\n'
        f"import math\n\nimport torch\n\n\n{needed}\n\n{candidate.source}"
    )


def files_beside(archive: Archive, problem: Problem, candidate: Candidate) -> tuple[Path, ...]:
    """What a candidate has learnt before it is used, as files."""
    if not problem.beside:
        return ()
    settings = json.loads(archive.run.settings_json)["settings"]
    files: tuple[Path, ...] = load(problem.beside)(candidate.source, settings["recording"])
    return files


def provenance(archive: Archive, problem: Problem, candidate: Candidate, text: str) -> dict[str, Any]:
    """Where a candidate comes from and how good it was found to be, with data, code and hardware by name or
    hash.
    """
    run = archive.run
    finals = read_finals(archive)
    described = candidate_as_json(archive, candidate)
    del described["source"]
    return {
        "problem": problem.name,
        "candidate": described,
        "file_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "champion": finals is not None and finals.champion.hash == candidate.hash,
        "champion_of_run": run_as_json(archive, problem)["champion"],
        "run": {
            "settings": json.loads(run.settings_json),
            "seed": run.seed,
            "archive_hash": archive.content_hash(),
            "kvolve": run.kvolve_version,
        },
        "hardware": {"machine": platform.machine(), "processor": _processor()},
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )
