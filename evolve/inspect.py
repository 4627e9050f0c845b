"""What was discovered: the leaderboard beside seeds, floors and bounds, and one candidate in full."""

import difflib
import math
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from database.reader import Reader
from database.records import Candidate, DuplicateKind, EvaluationRecord, Yield
from evaluators.problem import Problem
from evolve.finals import Finals, lead, read_finals
from evolve.llm.lessons import read_lessons
from evolve.llm.prompt import EXPLAIN
from evolve.view import sparkline


def run_as_json(archive: Any, problem: Problem) -> dict[str, Any]:
    """Everything about a run that a program may ask for."""
    finals = read_finals(archive)
    best = archive.best()
    cost = archive.cost()
    repeated, retests = archive.duplicates_by_operator(), archive.retests()
    duplicates = {kind.value: sum(of[kind] for of in repeated.values()) for kind in DuplicateKind}
    return {
        "problem": problem.name,
        "evaluations": archive.completed(),
        "hash": archive.content_hash(),
        "best": None if best is None else {"hash": best.hash, "score": best.score, "proposal": best.number},
        "champion": None if finals is None else _champion_as_json(problem, finals),
        "seeds": _named(archive, "seed"),
        "bounds": _named(archive, "bound"),
        "failures": archive.failures(),
        "duplicates": sum(duplicates.values()),
        "duplicates_by_kind": duplicates,
        "retests": {"agreed": retests.agreed, "collided": retests.collided},
        "measured_again": archive.measured_again(),
        "undone": archive.undone(),
        "coverage": archive.coverage(),
        "qd_score": archive.qd_score(),
        "cost": asdict(cost),
        "models": [_yield_as_json(of_one) for of_one in archive.yields()],
        "lessons": list(_lessons(archive)),
        "operators": {
            name: {
                "proposals": count.proposals,
                "scored": count.scored,
                "elite": count.elite,
                "duplicates": {kind.value: repeated.get(name, {}).get(kind, 0) for kind in DuplicateKind},
            }
            for name, count in archive.operator_counts().items()
        },
    }


def _lessons(archive: Reader) -> tuple[str, ...]:
    """What a model said last that the elites have in common."""
    told = archive.latest_call(EXPLAIN, archive.next_number())
    return () if told is None else read_lessons(told.reply)


def _yield_as_json(of_one: Yield) -> dict[str, Any]:
    """What an operator came to with a model."""
    return asdict(of_one) | {
        "gain_per_million_tokens": of_one.gain_per_million,
        "reasoning_tokens_per_changed_line": of_one.reasoning_per_line,
    }


def _champion_as_json(problem: Problem, finals: Finals) -> dict[str, Any]:
    champion = finals.champion
    found: dict[str, Any] = {
        "hash": champion.hash,
        "validation": champion.validation.score,
        "beats": {
            rival.name: {
                "difference": ahead.value,
                "interval": None if math.isinf(ahead.low) else [ahead.low, ahead.high],
            }
            for rival in finals.rivals()
            if rival.hash != champion.hash
            for ahead in [lead(problem, champion, rival)]
        },
    }
    if champion.holdout is not None:
        found["holdout"] = champion.holdout.score
    return found


def _named(archive: Reader, operator: str) -> list[dict[str, Any]]:
    """Name and score of each seed or bound; a failed one has the score null."""
    found = [
        {"name": candidate.proposal.detail, "hash": candidate.hash, "score": _score(candidate.evaluation)}
        for candidate in archive.candidates_of(operator)
    ]
    return sorted(found, key=lambda entry: -(entry["score"] if entry["score"] is not None else -1e9))


def _score(evaluation: EvaluationRecord | None) -> float | None:
    return None if evaluation is None else evaluation.score


def show_run(console: Console, archive: Any, problem: Problem, limit: int) -> None:
    """The leaderboard of a run, with its champion."""
    scores = [score for score in archive.history() if score is not None]
    console.print(
        f"[bold]{problem.name}[/]  {archive.completed()} evaluations, {archive.duplicates()} duplicates, "
        f"coverage {archive.coverage():.1%}, QD-score {archive.qd_score():.2f}",
        highlight=False,
    )
    console.print(f"best score over time  {sparkline(scores)}", highlight=False)
    failures = ", ".join(f"{kind} {count}" for kind, count in archive.failures().items())
    console.print(f"failures  {failures or 'none'}", highlight=False)
    console.print(f"duplicates  {_duplicates(archive)}", highlight=False)
    if again := archive.measured_again():
        console.print(
            f"noisy scores  measured again {again} times, {archive.undone()} promotions undone",
            highlight=False,
        )
    table = _table(f"search split: {problem.score_unit}", "candidate", "what", "score", *problem.headline)
    rows = [
        (s.hash, s.operator)
        for s in archive.leaderboard(limit + len(problem.seeds()))
        if s.operator != "seed"
    ]
    rows = rows[:limit]
    for operator in ("seed", "bound"):
        rows += [
            (entry["hash"], _role(problem, operator, entry["name"])) for entry in _named(archive, operator)
        ]
    lines = [(hash, what, archive.evaluation(hash, "search")) for hash, what in rows]
    for hash, what, evaluation in sorted(lines, key=lambda line: _rank(line[2])):
        kind = what.partition(" ")[0]
        style = "dim" if kind in ("bound", "floor") else "" if kind == "seed" else "bold"
        table.add_row(hash[:8], what, *_figures(problem, evaluation), style=style)
    console.print(table)
    if yields := archive.yields():
        show_yields(console, yields)
    for lesson in _lessons(archive):
        console.print(f"lesson  {lesson}", highlight=False, markup=False)
    if finals := read_finals(archive):
        show_finals(console, problem, finals)


def show_yields(console: Console, yields: list[Yield]) -> None:
    """What each model and operator took, and what the grid gained by it."""
    figures = ("asked", "made", "scored", "elite", "tokens", "reasoning", "USD", "gain", "per 1M")
    table = _table("gain: score above what a candidate replaced in the grid", "model", "operator", *figures)
    table.add_column("overthinking", justify="left")
    for of_one in yields:
        cost, per_million = of_one.cost, of_one.gain_per_million
        table.add_row(
            of_one.model or "unknown",
            of_one.operator or "unknown",
            *map(str, (cost.calls, of_one.proposals, of_one.scored, of_one.elite)),
            f"{cost.tokens_in + cost.tokens_out:,}",
            f"{cost.tokens_reasoning:,}",
            f"{cost.usd:.4f}",
            f"{of_one.gain:.4f}",
            "" if per_million is None else f"{per_million:.2f}",
            ", ".join(f"{pattern} {times}" for pattern, times in of_one.patterns.items()),
        )
    console.print(table)


def _duplicates(archive: Reader) -> str:
    """How often candidates were repeated, by kind, and how far equal behaviour can be trusted."""
    repeated, retests = archive.duplicates_by_operator(), archive.retests()
    parts = [
        f"{kind} {times}" for kind in DuplicateKind if (times := sum(of[kind] for of in repeated.values()))
    ]
    if tested := retests.agreed + retests.collided:
        parts.append(f"{retests.collided} of {tested} re-tested behavioural ones were none")
    return ", ".join(parts) or "none"


def _table(title: str, *columns: str) -> Table:
    """A table whose first two columns are names and whose others are figures."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        figure = number >= 2
        least = len(column) if figure else None
        table.add_column(column, justify="right" if figure else "left", no_wrap=True, min_width=least)
    return table


def _role(problem: Problem, operator: str, name: str) -> str:
    return f"{'floor' if name in problem.floors else operator} {name}".strip()


def _rank(evaluation: EvaluationRecord | None) -> float:
    """Sorts the best first and failures last."""
    return float("inf") if evaluation is None or evaluation.score is None else -evaluation.score


def _figures(problem: Problem, evaluation: EvaluationRecord | None) -> list[str]:
    if evaluation is None or evaluation.score is None:
        return ["failed" if evaluation is None or evaluation.failure is None else evaluation.failure]
    return [
        f"{evaluation.score:.4f}",
        *(
            f"{evaluation.metrics[name]:.3f}" if name in evaluation.metrics else ""  # bounds have few
            for name in problem.headline.values()
        ),
    ]


def show_finals(console: Console, problem: Problem, finals: Finals) -> None:
    """The champion on validation against every seed, and the holdout figure beside it."""
    champion = finals.champion
    table = _table(
        "validation split, and the champion's lead", "candidate", "what", "score", "lead", "95% interval"
    )
    for entrant in finals.entrants:
        what = _role(problem, entrant.role, entrant.name)
        if entrant.hash == champion.hash:
            table.add_row(
                champion.hash[:8], "champion", f"{entrant.validation.score:.4f}", "", "", style="bold green"
            )
            continue
        ahead = lead(problem, champion, entrant)
        table.add_row(
            entrant.hash[:8],
            what,
            f"{entrant.validation.score:.4f}",
            f"{ahead.value:+.4f}",
            str(ahead),
            style="dim" if what.startswith(("bound", "floor")) else "",
        )
    console.print(table)
    if problem.caveat:
        console.print(problem.caveat, highlight=False)
    if champion.holdout is not None:
        opened = [
            rival for rival in finals.rivals() if rival.holdout is not None and rival.hash != champion.hash
        ]
        console.print(f"holdout, opened once: champion {_holdout(champion.holdout)}", highlight=False)
        for rival in opened:
            if champion.holdout.score is None or rival.holdout is None or rival.holdout.score is None:
                console.print(
                    f"                      {rival.name} {_holdout(rival.holdout)}", highlight=False
                )
                continue
            ahead = lead(problem, champion, rival, "holdout")
            console.print(
                f"                      {rival.name} {_holdout(rival.holdout)}, lead {ahead.value:+.4f} "
                f"({ahead})",
                highlight=False,
            )


def _holdout(evaluation: EvaluationRecord | None) -> str:
    if evaluation is None:
        return "not opened"
    return f"{evaluation.score:.4f}" if evaluation.score is not None else f"failed ({evaluation.failure})"


def candidate_as_json(archive: Reader, candidate: Candidate) -> dict[str, Any]:
    """One candidate with everything that is known of it."""
    stages = {}
    for stage in ("search", "validation", "holdout"):
        if (evaluation := archive.evaluation(candidate.hash, stage)) is not None:
            stages[stage] = {
                "score": evaluation.score,
                "failure": evaluation.failure,
                "metrics": evaluation.metrics,
                "descriptors": evaluation.descriptors,
            }
    return {
        "hash": candidate.hash,
        "operator": candidate.proposal.operator,
        "proposal": candidate.proposal.number,
        "parents": list(candidate.proposal.parents),
        "lineage": [
            {"hash": s.hash, "operator": s.operator, "score": s.score}
            for s in archive.lineage(candidate.hash)
        ],
        "stages": stages,
        "effort": asdict(candidate.proposal.effort),
        "calls": [asdict(call) for call in archive.calls(candidate.proposal.number)],
        "source": candidate.source,
    }


def show_candidate(console: Console, archive: Reader, candidate: Candidate) -> None:
    """Metrics per budget, lineage, and the difference to the parent."""
    proposal, evaluation = candidate.proposal, candidate.evaluation
    console.print(
        f"[bold]{candidate.hash[:12]}[/]  proposal {proposal.number}, {proposal.operator} {proposal.detail}"
    )
    if (effort := proposal.effort).model:
        console.print(
            f"by {effort.model}: {effort.tokens:,} tokens, {effort.tokens_reasoning:,} of reasoning for "
            f"{effort.changed} changed lines, {effort.cost_usd:.4f} USD"
            + "".join(f", {pattern}" for pattern in effort.patterns),
            highlight=False,
        )
    if evaluation is None:
        console.print("not evaluated yet")
    elif evaluation.failure:
        console.print(f"failure [red]{evaluation.failure}[/]: {evaluation.message}", highlight=False)
    else:
        console.print(f"score {evaluation.score:.4f}", highlight=False)
        console.print(evaluation.feedback, highlight=False)
        console.print(_metrics(evaluation))
    table = _table("lineage, newest first", "candidate", "operator", "score")
    for standing in archive.lineage(candidate.hash):
        table.add_row(
            standing.hash[:12], standing.operator, "" if standing.score is None else f"{standing.score:.4f}"
        )
    console.print(table)
    if proposal.parents:
        parent = archive.candidate(proposal.parents[0])
        difference = difflib.unified_diff(
            parent.source.splitlines(),
            candidate.source.splitlines(),
            parent.hash[:12],
            candidate.hash[:12],
            lineterm="",
        )
        console.print(Syntax("\n".join(difference), "diff", background_color="default"))
    else:
        console.print(Syntax(candidate.source, "python", background_color="default"))


def _metrics(evaluation: EvaluationRecord) -> Table:
    """All metrics: those per budget, or goal, side by side, then the others and the descriptors."""
    found = {name.partition("@")[2] for name in evaluation.metrics} - {""}
    budgets = sorted(found, key=lambda name: [float(part.rstrip("%")) for part in name.split(",")])
    table = _table("search split", "metric", "", *(budgets or ["value"]))
    for name in dict.fromkeys(name.partition("@")[0] for name in evaluation.metrics):
        per_budget = [evaluation.metrics.get(f"{name}@{budget}") for budget in budgets]
        if name in evaluation.metrics:
            table.add_row(name, "", f"{evaluation.metrics[name]:.4f}")
        if per_budget and None not in per_budget:
            table.add_row(name, "", *(f"{value:.4f}" for value in per_budget))
    for name, value in evaluation.descriptors.items():
        table.add_row(name, "descriptor", f"{value:.4f}")
    return table
