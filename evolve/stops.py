"""When a run ends: what it may spend, and when there is no point in going on."""

import time

from database.archive import Archive
from database.records import Placement, Step
from evolve.proposer import Draft, Paying, Request, Reservation
from evolve.settings import Settings

ROUNDING_USD = 1e-9


class Stops:
    """Tells whether one more proposal may be asked for, and if not, why.

    What is under way counts with its reservation until its true cost is known: however many calls are in
    flight, no limit is overshot by more than what a call takes beyond its reservation.
    """

    def __init__(self, settings: Settings, archive: Archive, proposer: object) -> None:
        self.settings = settings
        self.archive = archive
        self.proposer = proposer if isinstance(proposer, Paying) else None
        cost = archive.cost()
        self.spent = Reservation(cost.tokens_in + cost.tokens_out, cost.usd)
        self.reserved: dict[int, Reservation] = {}  # by proposal under way
        self.deadline = time.monotonic() + (settings.max_minutes or 1e9) * 60
        self.best: float | None = None
        self.idle = 0  # completed proposals since the last new best or new cell
        self.longest = 0
        if settings.stagnation is not None:
            for step in archive.steps():
                self.learn(step)

    def learn(self, step: Step) -> None:
        """Told of each completed proposal, in their order."""
        is_best = step.score is not None and (self.best is None or step.score > self.best)
        if is_best:
            self.best = step.score
        given = step.operator in ("seed", "bound")
        if is_best or given or step.placement is Placement.NEW_CELL:
            self.idle = 0
        else:
            self.idle += 1
        self.longest = max(self.longest, self.idle)

    def reserve(self, request: Request) -> None:
        """Sets aside the most that a request can take."""
        self.reserved[request.number] = self._reservation(request)

    def settle(self, number: int, draft: Draft) -> None:
        """Replaces what was set aside by what the proposal took."""
        del self.reserved[number]
        self.spent = Reservation(self.spent.tokens + draft.tokens, self.spent.usd + draft.cost_usd)

    def must_wait(self, request: Request) -> bool:
        """Whether what is set aside leaves no room for one more; what comes back of it may make room."""
        return bool(self.reserved) and self._overspent(self._committed(), request) is not None

    def reason(self, number: int, request: Request | None = None) -> str | None:
        """Why proposal `number` may not be asked for by `request`, as a sentence; None if it may."""
        settings, best = self.settings, self.archive.best()
        if number >= settings.max_evaluations:
            return f"All {settings.max_evaluations} evaluations are made."
        if settings.target_score is not None and best is not None and best.score >= settings.target_score:
            return f"The best score, {best.score:.4f}, has reached the target of {settings.target_score:g}."
        # The longest time without a find counts, not the last one: what was still under way then may have
        # found something, and a run that is killed and resumed has to end where the undisturbed one does.
        if settings.stagnation is not None and self.longest >= settings.stagnation:
            return f"No new best and no new cell in {settings.stagnation} evaluations."
        if time.monotonic() > self.deadline:
            return f"{settings.max_minutes:g} minutes are over."
        return self._overspent(self.spent, request)

    def _reservation(self, request: Request | None) -> Reservation:
        return self.proposer.reservation(request) if self.proposer and request else Reservation()

    def _committed(self) -> Reservation:
        under_way = self.reserved.values()
        return Reservation(
            self.spent.tokens + sum(one.tokens for one in under_way),
            self.spent.usd + sum(one.usd for one in under_way),
        )

    def _overspent(self, spent: Reservation, request: Request | None) -> str | None:
        """Which limit leaves no room for one more request when so much is gone."""
        one, tokens, usd = self._reservation(request), self.settings.max_tokens, self.settings.max_cost
        if tokens is not None and (spent.tokens >= tokens or spent.tokens + one.tokens > tokens):
            return (
                f"{spent.tokens:,} of {tokens:,} tokens are spent, and one more proposal may take "
                f"{one.tokens:,}."
            )
        if usd is not None and (spent.usd >= usd or spent.usd + one.usd > usd + ROUNDING_USD):
            return (
                f"{spent.usd:.4f} of {usd:g} USD are spent, and one more proposal may cost {one.usd:.4f} USD."
            )
        return None
