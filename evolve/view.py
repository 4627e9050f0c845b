"""What a user sees while a run goes on: a live view on a terminal, plain lines elsewhere."""

import sys
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from database.archive import Archive
from database.records import EvaluationRecord, Placement
from evolve.settings import Settings

BARS = "▁▂▃▄▅▆▇█"
RECENT = 50  # evaluations over which the rate is measured
QUIET_S = 60.0  # without a line


class View:
    """Shows a run. `plain` prints one line for each new best and each fiftieth evaluation, and where results
    are rare, one a minute at most.
    """

    def __init__(self, console: Console, plain: bool) -> None:
        self.console = console
        self.plain = plain or not console.is_terminal
        self.live: Live | None = None
        self.started = self.printed = time.monotonic()
        self.times: list[float] = []
        self.best: float | None = None
        self.history: list[float] = []
        self.counts: Counter[str] = Counter()
        self.done = 0

    def say(self, text: str) -> None:
        """One line, above the live view if there is one."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def progress(self, done: int, total: int) -> None:
        """How far a recording is."""
        if self.plain:
            self.say(f"recorded {done} of {total} contexts")
        else:
            filled = round(30 * done / max(1, total))
            end = "\n" if done == total else "\r"
            self.console.print(f"recording  {'━' * filled}{'╌' * (30 - filled)}  {done}/{total}", end=end)

    def begin(self, settings: Settings, inputs: str, directory: Path, archive: Archive) -> None:
        """Takes over the state of the archive, and says what is run on what."""
        self.settings, self.directory, self.archive = settings, directory, archive
        self.started = time.monotonic()
        self.done = archive.completed()
        self.counts.update(archive.failures())
        if (best := archive.best()) is not None:
            self.best = best.score
            self.history.append(best.score)
        self.say(f"{settings.problem} on {inputs}")
        self.say(f"run directory {directory}, seed {settings.seed}, {settings.workers} workers")

    def observe(
        self, number: int, operator: str, evaluation: EvaluationRecord, placement: Placement | None
    ) -> None:
        """Called by the loop with each result, after it is in the archive."""
        self.done += 1
        self.times.append(time.monotonic())
        if evaluation.failure:
            self.counts[evaluation.failure] += 1
        improved = placement is not None and (self.best is None or (evaluation.score or 0.0) > self.best)
        if improved:
            self.best = evaluation.score
        if self.best is not None:
            self.history.append(self.best)
        if self.live:
            self.live.update(self._picture())
        elif improved or self.done % 50 == 0 or self.times[-1] - self.printed > QUIET_S:
            self.printed = self.times[-1]
            best = "none" if self.best is None else f"{self.best:.4f}"
            self.say(
                f"{self.done:5d} of {self.settings.max_evaluations}  best {best}  "
                f"{self._rate():.1f}/s  coverage {self.archive.coverage():.1%}"
                + (f"  <- {operator} (proposal {number})" if improved else "")
            )

    def conclude(self) -> None:
        """What the whole stretch of work came to."""
        counts = self.archive.operator_counts()
        scored = sum(count.scored for count in counts.values())
        failed = sum(self.archive.failures().values())
        self.say(
            f"{self.archive.completed()} proposals: {scored + failed} candidates evaluated "
            f"({scored} with a score, {failed} failures), {self.archive.duplicates()} duplicates; "
            f"{time.monotonic() - self.started:.0f} s"
        )
        if (cost := self.archive.cost()).calls:
            self.say(
                f"{cost.calls:,} calls of models: {cost.tokens_in:,} tokens in, {cost.tokens_out:,} out "
                f"({cost.tokens_reasoning:,} of reasoning)" + (f", {cost.usd:.4f} USD" if cost.usd else "")
            )

    def __enter__(self) -> Self:
        if not self.plain:
            self.live = Live(self._picture(), console=self.console, refresh_per_second=4, transient=True)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()
            self.live = None

    def _rate(self) -> float:
        recent = self.times[-RECENT:]
        start = self.started if len(recent) < RECENT else recent[0]
        return len(recent) / max(1e-9, time.monotonic() - start)

    def _picture(self) -> Group:
        left = max(0, self.settings.max_evaluations - self.done)
        rate = self._rate()
        table = Table.grid(padding=(0, 2))
        table.add_row("best score", "none yet" if self.best is None else f"[bold]{self.best:.4f}[/]")
        table.add_row("history", Text(sparkline(self.history)))
        table.add_row("coverage", f"{self.archive.coverage():.1%} of the grid's cells")
        table.add_row("evaluations", f"{self.done} of {self.settings.max_evaluations}, {rate:.1f} per second")
        table.add_row("failures", ", ".join(f"{k} {n}" for k, n in self.counts.most_common()) or "none")
        spent = time.monotonic() - self.started
        table.add_row("time", f"{spent:.0f} s, about {left / rate if rate else 0:.0f} s left")
        return Group(Panel(table, title=f"kvolve run {self.settings.problem}", subtitle=str(self.directory)))


def make_console() -> Console:
    """Standard output, as wide as the terminal, or as wide as is read well elsewhere."""
    return Console(width=None if sys.stdout.isatty() else 110)


def make_view(plain: bool) -> View:
    """A view on standard output."""
    return View(make_console(), plain)


def sparkline(values: list[float], width: int = 48) -> str:
    """The course of `values` as block characters, at most `width` of them."""
    if not values:
        return ""
    picked = [values[i * (len(values) - 1) // max(1, width - 1)] for i in range(min(width, len(values)))]
    low, high = min(picked), max(picked)
    if high == low:
        return BARS[0] * len(picked)
    return "".join(BARS[int((value - low) / (high - low) * (len(BARS) - 1))] for value in picked)
