"""The proposer that asks language models."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from database.archive import Archive
from database.records import CallRecord
from evolve.llm.conversation import Conversation, Message, answered, without_reasoning
from evolve.llm.errors import ReplyError
from evolve.llm.parse import names_required, read_program
from evolve.llm.prompt import LIMIT, Prompts, others_of
from evolve.llm.questions import Answers, Question
from evolve.llm.reply import CHARACTERS_PER_TOKEN
from evolve.llm.settings import LLM, Model, OperatorName
from evolve.proposer import Draft, Request
from evolve.stops import Reservation

if TYPE_CHECKING:
    from numpy.random import Generator

LONGEST_SOURCE = 20_000  # characters of a reply that are kept as the source of a failed proposal
USUAL_SOURCES = 8_000  # characters of the sources in a prompt, for the reservation

Thing = TypeVar("Thing")


class LLMProposer:
    """Asks one of several models, and asks it again with what is wrong when its reply cannot be used.

    Every reply is in the archive before anything else is done with it, and is looked for there before it is
    asked for: a run that was killed asks for no paid reply twice.
    """

    reads_failures = True

    def __init__(
        self,
        archive: Archive,
        *,
        answers: Answers,
        prompts: Prompts,
        models: tuple[Model, ...],
        settings: LLM,
        objections: Callable[[str], str],
    ) -> None:
        """`objections` says what the screen has against a source; "" if nothing."""
        self.archive = archive
        self.answers = answers
        self.prompts = prompts
        self.models = models
        self.settings = settings
        self.objections = objections
        self.required = names_required(prompts.interface)

    async def close(self) -> None:
        """Gives connections back."""
        await self.answers.close()

    def reservation(self) -> Reservation:
        """What a proposal takes when every reply is as long as it may be and the last one is needed."""
        prompt = (LIMIT + USUAL_SOURCES) // CHARACTERS_PER_TOKEN
        most = [
            (model, sum(prompt + n * model.max_tokens for n in range(calls)), calls * model.max_tokens)
            for model in self.models
            if (calls := 1 + self.settings.tries)
        ]
        return Reservation(
            tokens=max(tokens_in + tokens_out for _, tokens_in, tokens_out in most),
            usd=max(model.cost_usd(tokens_in, tokens_out) for model, tokens_in, tokens_out in most),
        )

    async def propose(self, request: Request, random: "Generator") -> Draft:
        """A draft for `request`. When no reply can be used, its source is what was in the last one, and its
        detail says what is wrong with it.
        """
        operator = _drawn(self._operators(request), random.random())
        model = _drawn({model: model.weight for model in self.models}, random.random())
        shown = (request.parents[0], *others_of(request))
        sources = tuple(parent.source for parent in shown)
        calls = _Calls(self.archive, self.answers, request.number, model)
        conversation: Conversation = (Message("user", self.prompts.render(operator, request)),)
        source = error = ""
        for _ in range(1 + self.settings.tries):
            reply = await calls.ask(conversation)
            try:
                source = read_program(reply, sources, self.required)
                error = self.objections(source)
            except ReplyError as unusable:
                source, error = unusable.source, str(unusable)
            if not error:
                break
            conversation = answered(conversation, without_reasoning(reply), self.prompts.complaint(error))
        return Draft(
            operator,
            tuple(parent.hash for parent in shown),
            source[:LONGEST_SOURCE] if error else source,
            detail=error,
            tokens=calls.tokens,
            cost_usd=calls.cost_usd,
        )

    def _operators(self, request: Request) -> dict[OperatorName, float]:
        """The weights of the operators that this request has what they need for."""
        possible: dict[OperatorName, bool] = {
            "rewrite": True,
            "diff": True,
            "crossover": bool(others_of(request)),
            "repair": bool(request.failures),
        }
        return {name: weight for name, weight in self.settings.operators.items() if possible[name]}


@dataclass
class _Calls:
    """The calls of one proposal: those that the archive has are not made again."""

    archive: Archive
    answers: Answers
    number: int
    model: Model
    tokens: int = 0  # of the calls made now
    cost_usd: float = 0.0

    def __post_init__(self) -> None:
        self.stored: deque[CallRecord] = deque(self.archive.calls(self.number))
        self.position = len(self.stored)

    async def ask(self, conversation: Conversation) -> str:
        """The reply to a conversation, from the archive or from the model."""
        question = Question(self.number, self.position, self.model, conversation)
        while self.stored:
            # Another prompt was asked before templates or settings were changed: its reply is no answer now.
            if (stored := self.stored.popleft()).prompt == question.prompt:
                return stored.reply
        call = await self.answers.answer(question)
        self.archive.add_call(call)
        self.position += 1
        self.tokens += call.tokens_in + call.tokens_out
        self.cost_usd += call.cost_usd
        return call.reply


def _drawn(weights: Mapping[Thing, float], random: float) -> Thing:
    """One of the things, in proportion to its weight; `random` is from [0, 1)."""
    place = random * sum(weights.values())
    for thing, weight in weights.items():
        place -= weight
        if place < 0:
            return thing
    return next(thing for thing in reversed(list(weights)) if weights[thing] > 0)
