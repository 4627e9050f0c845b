"""The audit: every attack is tried, and each that pays is made as small as it can be."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from evaluators.cases.actor import FunctionActor
from evaluators.problem import Problem
from evolve.audit.attacks import Kind, attempts_on
from evolve.audit.subject import Place, Subject, make_subject, public_functions, survey, surveyed
from evolve.audit.trying import Bench, problem_bench, program_of, script_bench
from evolve.audit.writing import Attempt
from evolve.settings import Settings
from kvolve import KvolveError
from sandbox.screen import screen
from sandbox.task import load

AUDIT_S = 50.0  # in all; what is left of a minute is for starts and ends
TRYING = 0.7  # of it, for finding holes; the rest makes their programs small
MOST_OF_KIND = 3  # holes of one kind that are reported


class HonestFailedError(KvolveError):
    """The honest program has no score: nothing can be compared with it."""


@dataclass(frozen=True)
class Hole:
    """An attack that pays."""

    kind: str
    what: str  # the program does
    score: float
    honest: float
    check: str  # what the evaluator should check
    stopped: bool | None  # in a run, by the candidate's own process; None if it cannot be tried there
    program: str


@dataclass
class Audit:
    """What an audit came to."""

    honest: float = 0.0
    attempts: int = 0
    refused: int = 0  # by the screen, before they ran
    complete: bool = True  # whether there was time for all attempts
    seconds: float = 0.0
    holes: list[Hole] = field(default_factory=list)


@dataclass(frozen=True)
class _Found:
    kind: Kind
    attempt: Attempt
    score: float


def _hole(found: _Found, honest: float, stopped: bool | None) -> Hole:
    return Hole(
        kind=found.kind.name,
        what=found.attempt.what,
        score=found.score,
        honest=honest,
        check=found.kind.advice,
        stopped=stopped,
        program=found.attempt.source,
    )


def audit_script(settings: Settings) -> Audit:
    """Tries to cheat a user's evaluator with programs made from the initial one.

    Raises KvolveError where the initial program has no score.
    """
    started = time.monotonic()
    source, evaluator = program_of(settings), Path(str(settings.evaluator))
    audit = Audit()
    with script_bench(settings, 1) as bench:
        if failure := bench.settle(source):
            raise HonestFailedError(f"The initial program {settings.initial} gets no score. {failure[:800]}")
        audit.honest = bench.honest
        told = bench.said(survey(source, public_functions(source)))
        subject = make_subject(source, surveyed(told), evaluator, tuple(map(Path, settings.data)))
        found = _tried(audit, bench, source, attempts_on(subject), started + TRYING * AUDIT_S)
        found = _made_small(bench, source, found, started + 0.9 * AUDIT_S)
    stopped = _stopped(settings, source, found)
    audit.holes = [_hole(one, audit.honest, stopped.get(one.attempt.source)) for one in found]
    audit.seconds = time.monotonic() - started
    return audit


def audit_problem(problem: Problem, settings: Settings) -> Audit:
    """Tries to cheat a problem of kvolve with programs made from its best seed, as far as its language lets
    them be written.

    Raises KvolveError for a problem whose candidates are no function of a case.
    """
    started = time.monotonic()
    actor = load(problem.actor)()
    if not isinstance(actor, FunctionActor):
        raise KvolveError(
            f"Candidates of {problem.name} are no function of a case, so they cannot be audited."
        )
    audit = Audit()
    with problem_bench(problem, settings) as bench:
        seeds = {seed.source: bench.score(seed.source) for seed in problem.seeds() if seed.role != "bound"}
        scored = {source: score for source, score in seeds.items() if score is not None}
        source = max(scored, key=lambda one: scored[one])
        bench.settle(source)
        audit.honest = bench.honest
        paths = [(n,) for n in range(len(actor.answers))] if len(actor.answers) > 1 else [()]
        places = tuple(Place(path, kind) for path in paths for kind in ("list", "array", "number"))
        subject = Subject(source, (actor.function,), {actor.function: places})

        def allowed() -> Iterator[tuple[Kind, Attempt]]:
            for kind, attempt in attempts_on(subject):
                if screen(attempt.source, problem.language):
                    audit.refused += 1
                else:
                    yield kind, attempt

        found = _tried(audit, bench, source, allowed(), started + TRYING * AUDIT_S)
        found = _made_small(bench, source, found, started + AUDIT_S)
    audit.holes = [_hole(one, audit.honest, False) for one in found]
    audit.seconds = time.monotonic() - started
    return audit


def _tried(
    audit: Audit, bench: Bench, honest: str, attempts: Iterator[tuple[Kind, Attempt]], until: float
) -> list[_Found]:
    """The attempts that pay each time; one for each key of a kind."""
    found: dict[tuple[str, str], _Found] = {}
    for kind, attempt in attempts:
        if time.monotonic() > until:
            audit.complete = False
            break
        known = sum(name == kind.name for name, _ in found)
        if (kind.name, attempt.key) in found or known >= MOST_OF_KIND:
            continue
        audit.attempts += 1
        score = bench.score(attempt.source)
        if score is not None and bench.pays(score) and bench.earns_more_each_time(attempt.source, honest):
            found[kind.name, attempt.key] = _Found(kind, attempt, score)
    return list(found.values())


def _made_small(bench: Bench, honest: str, found: list[_Found], until: float) -> list[_Found]:
    """The same holes with smaller programs, each of which is scored again; the time is shared among them.

    A smaller program keeps at least half of what the hole pays: where scores depend on time, the honest
    program itself, scored often enough, is above its own score once.
    """
    from evolve.audit.shrinking import shrunk

    small = []
    for number, one in enumerate(found):
        least = bench.honest + (one.score - bench.honest) / 2

        def pays_half(source: str, least: float = least) -> bool:
            score = bench.score(source)
            return score is not None and bench.pays(score) and score >= least

        share_s = max(0.0, until - time.monotonic()) / (len(found) - number)
        source = shrunk(one.attempt.source, honest, pays_half, time.monotonic() + share_s)
        score = bench.score(source)
        if score is None or score < least:  # luck decided: keep what paid each time
            small.append(one)
        else:
            small.append(_Found(one.kind, Attempt(one.attempt.key, one.attempt.what, source), score))
    return small


def _stopped(settings: Settings, honest: str, found: list[_Found]) -> dict[str, bool]:
    """Program -> whether it earns no more than the honest one where candidates have a process of their own;
    nothing where the evaluator does not work that way."""
    if not found:
        return {}
    with script_bench(settings, 2) as bench:
        if bench.settle(honest):
            return {}
        return {
            one.attempt.source: not bench.earns_more_each_time(one.attempt.source, honest) for one in found
        }
