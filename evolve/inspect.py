"""What was discovered: the leaderboard beside seeds, floors and bounds, and one candidate in full."""

import difflib
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from database.reader import Reader
from database.records import Candidate, EvaluationRecord
from evaluators.problem import Problem
from evolve.finals import Finals, lead, read_finals
from evolve.view import sparkline


def run_as_json(archive: Any, problem: Problem) -> dict[str, Any]:
    """Everything about a run that a program may ask for."""
    finals = read_finals(archive)
    best = archive.best()
    cost = archive.cost()
    return {
        "problem": problem.name,
        "evaluations": archive.completed(),
        "hash": archive.content_hash(),
        "best": None if best is None else {"hash": best.hash, "score": best.score, "proposal": best.number},
        "champion": None if finals is None else _champion_as_json(problem, finals),
        "seeds": _named(archive, "seed"),
        "bounds": _named(archive, "bound"),
        "failures": archive.failures(),
        "duplicates": archive.duplicates(),
        "coverage": archive.coverage(),
        "qd_score": archive.qd_score(),
        "cost": {"tokens_in": cost.tokens_in, "tokens_out": cost.tokens_out, "usd": cost.usd},
        "operators": {
            name: {"proposals": count.proposals, "scored": count.scored, "elite": count.elite}
            for name, count in archive.operator_counts().items()
        },
    }


def _champion_as_json(problem: Problem, finals: Finals) -> dict[str, Any]:
    champion = finals.champion
    found: dict[str, Any] = {
        "hash": champion.hash,
        "validation": champion.validation.score,
        "beats": {
            rival.name: {"difference": ahead.value, "low": ahead.low, "high": ahead.high}
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
    table = Table(title=f"search split: {problem.score_unit}")
    for column in ("candidate", "what", "score", *problem.headline):
        table.add_column(column, justify="left" if column in ("candidate", "what") else "right")
    rows = [(s.hash, s.operator) for s in archive.leaderboard(limit) if s.operator != "seed"]
    for operator in ("seed", "bound"):
        rows += [(entry["hash"], f"{operator} {entry['name']}") for entry in _named(archive, operator)]
    lines = [(hash, what, archive.evaluation(hash, "search")) for hash, what in rows]
    for hash, what, evaluation in sorted(lines, key=lambda line: -(_score(line[2]) or -1e9)):
        style = "dim" if what.startswith("bound") else "bold" if what[:4] != "seed" else ""
        table.add_row(hash[:12], what, *_figures(problem, evaluation), style=style)
    console.print(table)
    if finals := read_finals(archive):
        show_finals(console, problem, finals)


def _figures(problem: Problem, evaluation: EvaluationRecord | None) -> list[str]:
    if evaluation is None or evaluation.score is None:
        return ["failed" if evaluation is None or evaluation.failure is None else evaluation.failure]
    return [f"{evaluation.score:.4f}", *(f"{evaluation.metrics[name]:.3f}" for name in problem.headline)]


def show_finals(console: Console, problem: Problem, finals: Finals) -> None:
    """The champion on validation against every seed, and the holdout figure beside it."""
    champion = finals.champion
    table = Table(
        title="validation split: lead of the champion, with 95% interval (paired bootstrap over contexts)"
    )
    for column in ("candidate", "what", "score", "lead", "interval"):
        table.add_column(column, justify="left" if column in ("candidate", "what") else "right")
    for entrant in finals.entrants:
        what = f"{entrant.role} {entrant.name}".strip()
        if entrant.hash == champion.hash:
            table.add_row(
                champion.hash[:12], "champion", f"{entrant.validation.score:.4f}", "", "", style="bold green"
            )
            continue
        ahead = lead(problem, champion, entrant)
        table.add_row(
            entrant.hash[:12],
            what,
            f"{entrant.validation.score:.4f}",
            f"{ahead.value:+.4f}",
            f"{ahead.low:+.4f} .. {ahead.high:+.4f}",
            style="dim" if entrant.role == "bound" else "",
        )
    console.print(table)
    if champion.holdout is not None:
        opened = [
            rival for rival in finals.rivals() if rival.holdout is not None and rival.hash != champion.hash
        ]
        console.print(f"holdout, opened once: champion {_holdout(champion.holdout)}", highlight=False)
        for rival in opened:
            ahead = lead(problem, champion, rival, "holdout")
            console.print(
                f"                      {rival.name} {_holdout(rival.holdout)}, lead {ahead.value:+.4f} "
                f"({ahead.low:+.4f} .. {ahead.high:+.4f})",
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
        "source": candidate.source,
    }


def show_candidate(console: Console, archive: Reader, candidate: Candidate) -> None:
    """Metrics per budget, lineage, and the difference to the parent."""
    proposal, evaluation = candidate.proposal, candidate.evaluation
    console.print(
        f"[bold]{candidate.hash[:12]}[/]  proposal {proposal.number}, {proposal.operator} {proposal.detail}"
    )
    if evaluation is None:
        console.print("not evaluated yet")
    elif evaluation.failure:
        console.print(f"failure [red]{evaluation.failure}[/]: {evaluation.message}", highlight=False)
    else:
        console.print(f"score {evaluation.score:.4f}", highlight=False)
        console.print(evaluation.feedback, highlight=False)
        table = Table("metric", "value", title="search split")
        for name, value in {**evaluation.metrics, **evaluation.descriptors}.items():
            table.add_row(name, f"{value:.4f}")
        console.print(table)
    table = Table("candidate", "operator", "score", title="lineage, newest first")
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
