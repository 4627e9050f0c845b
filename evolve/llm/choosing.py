"""What a proposal is made of and by whom: chosen when its parents are, from the archive as it is then.

The choice is noted with the parents, so that a resumed run asks for what it had chosen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from database.archive import Archive
from database.records import Step
from evolve.bandit import WINDOW, Bandit, drawn, gain_per_dollar, gain_per_token
from evolve.llm.lessons import read_lessons
from evolve.llm.prompt import EXPLAIN, MOST_FAILURES, MOST_OTHERS, others_of
from evolve.llm.settings import LLM, Model, OperatorName
from evolve.proposer import Request, parent_of
from evolve.simpler import Simpler

if TYPE_CHECKING:
    from numpy.random import Generator

CODED = 2  # plans that become programs
LEAST_TO_SIMPLIFY = 1_000  # characters: a shorter program has hardly anything to take out


@dataclass(frozen=True)
class Choice:
    """Operator, name of the model, and whether it is to explain the elites first.

    As text it is the operator, perhaps with what goes before it, and the name.
    """

    operator: OperatorName
    model: str
    explains: bool = False

    def __str__(self) -> str:
        return f"{EXPLAIN}+{self.operator} {self.model}" if self.explains else f"{self.operator} {self.model}"

    @classmethod
    def read(cls, text: str) -> "Choice":
        """The choice that a text says."""
        what, _, model = text.partition(" ")
        *before, operator = what.split("+")
        return cls(cast("OperatorName", operator), model, explains=EXPLAIN in before)


class Choosing:
    """Chooses, and learns from every result; what it knows it has from the archive."""

    def __init__(self, archive: Archive, models: tuple[Model, ...], settings: LLM) -> None:
        self.archive = archive
        self.models = {model.name: model.weight for model in models}
        self.settings = settings
        in_usd = all(model.is_priced and model.cost_usd(1, 1) for model in models)
        pay = gain_per_dollar if in_usd else gain_per_token
        self.bandit = Bandit(archive.latest_steps(WINDOW, models=self.models), pay, self.models)
        self.simpler = Simpler(archive, self.models)
        explained = archive.latest_call(EXPLAIN, archive.next_number())
        self.explained = -1 if explained is None else explained.number  # the last proposal that began so

    def learn(self, step: Step) -> None:
        """Told of each completed proposal, in their order."""
        self.bandit.learn(step)
        if step.effort.model in self.models:
            self.simpler.learn(step)

    def prepare(self, request: Request, known: int, random: "Generator") -> Request:
        """The request with parents, failures, lessons and choice; see `evolve.proposer.Reading`."""
        is_new = not request.choice
        explains = is_new and self._explains(request.number)
        if explains:
            parents = [parent_of(self.archive, hash) for hash in self._elites()]
            request = replace(request, parents=tuple(parents))
        if is_new:
            request = replace(request, parents=tuple(map(self.simpler.of, request.parents)))
        failures = self.archive.failed_changes(request.parents[0].hash, known, MOST_FAILURES)
        request = replace(request, failures=tuple(failures), lessons=self._lessons(known))
        if is_new:
            request = self.choose(request, random, explains)
        if Choice.read(request.choice).explains:
            self.explained = max(self.explained, request.number)
        return request

    def choose(self, request: Request, random: "Generator", explains: bool = False) -> Request:
        """The request with what is to be done for it, and by whom."""
        operators: Mapping[str, float] = self._operators(request)
        if self.settings.choice == "bandit":
            operator = self.bandit.draw_operator(operators, random)
            model = self.bandit.draw_model(self.models, random)
        else:
            operator, model = drawn(operators, random.random()), drawn(self.models, random.random())
        choice = replace(Choice.read(f"{operator} {model}"), explains=explains)
        return replace(request, choice=str(choice), drafts=CODED if operator == "plan" else self.settings.m)

    def _operators(self, request: Request) -> dict[str, float]:
        """The weights of the operators that this request has what they need for."""
        possible: dict[OperatorName, bool] = {
            "rewrite": True,
            "diff": True,
            "crossover": bool(others_of("crossover", request)),
            "plan": True,
            "repair": bool(request.failures),
            "simplify": len(request.parents[0].source) >= LEAST_TO_SIMPLIFY,
        }
        return {name: weight for name, weight in self.settings.operators.items() if possible[name]}

    def _lessons(self, known: int) -> tuple[str, ...]:
        if not self.settings.explain_every:
            return ()
        told = self.archive.latest_call(EXPLAIN, known)
        return () if told is None else read_lessons(told.reply)

    def _explains(self, number: int) -> bool:
        """Whether proposal `number` is to begin with an explanation: the first one after so many."""
        every = self.settings.explain_every
        due = every and (number + 1) // every * every - 1 > self.explained
        return bool(due) and len(self._elites()) > 1

    def _elites(self) -> list[str]:
        """Hashes of the best elites, the best first."""
        best_first = sorted(self.archive.elites(), key=lambda elite: (-elite.score, elite.number))
        return list(dict.fromkeys(elite.hash for elite in best_first))[: 1 + MOST_OTHERS]
