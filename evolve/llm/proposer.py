"""The proposer that asks language models."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from math import fsum
from typing import TYPE_CHECKING

from database.archive import Archive
from database.records import Effort, Step
from evolve.llm.attempts import Attempt, Talk, best_of
from evolve.llm.choosing import Choice, Choosing
from evolve.llm.conversation import Conversation, Message, answered
from evolve.llm.errors import ReplyError
from evolve.llm.fences import fenced_texts
from evolve.llm.lessons import read_lessons
from evolve.llm.overthinking import Thinking
from evolve.llm.parse import names_required, read_program, require_shorter
from evolve.llm.plans import ASKED, LONGEST, as_list, most_different, read_plans
from evolve.llm.prompt import EXPLAIN, LIMIT, Prompts, others_of
from evolve.llm.questions import Answers, Calls
from evolve.llm.reply import CHARACTERS_PER_TOKEN
from evolve.llm.settings import LLM, Model, OperatorName
from evolve.normalise import names_in, normal_hash
from evolve.proposer import Draft, Request, Reservation

if TYPE_CHECKING:
    from numpy.random import Generator

LONGEST_SOURCE = 20_000  # characters of a reply that are kept as the source of a failed proposal


class LLMProposer:
    """Asks one of several models, and asks it again with what is wrong when its reply cannot be used.

    Every reply is in the archive before anything else is done with it, and is looked for there before it is
    asked for: a run that was killed asks for no paid reply twice.
    """

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
        self.models = {model.name: model for model in models}
        self.settings = settings
        self.objections = objections
        self.choosing = Choosing(archive, models, settings)
        self.required = names_required(prompts.interface)
        self.names = names_in(prompts.interface)
        self.examples = {self._normal(one.text) for one in fenced_texts(prompts.interface)} - {""}
        self.stopped = False

    async def close(self) -> None:
        """Gives connections back."""
        await self.answers.close()

    def stop(self) -> None:
        """Nothing more is asked for: what was asked for is waited for, but no conversation goes on."""
        self.stopped = True
        self.answers.stop()

    def learn(self, step: Step) -> None:
        """Told of each completed proposal, in their order."""
        self.choosing.learn(step)

    def prepare(self, request: Request, known: int, random: "Generator") -> Request:
        """The request with all that its prompt is made of; see `evolve.proposer.Reading`."""
        return self.choosing.prepare(request, known, random)

    def first_prompt(self, request: Request) -> str:
        """What a model is asked first for a prepared request."""
        choice = Choice.read(request.choice)
        return self.prompts.render(EXPLAIN if choice.explains else choice.operator, request)

    def reservation(self, request: Request) -> Reservation:
        """What a request takes when every reply is as long as it may be and the last one is needed."""
        choice = Choice.read(request.choice) if request.choice else Choice("rewrite", "")
        sources = [parent.source for parent in request.parents]
        sources += [failure.source for failure in request.failures[:1]]
        plans = ASKED * LONGEST if choice.operator == "plan" else 0
        prompt = (LIMIT + plans + sum(map(len, sources))) // CHARACTERS_PER_TOKEN
        models = [self.models[choice.model]] if choice.model in self.models else self.models.values()
        most = [_most(model, prompt, self._replies(choice, request.drafts)) for model in models]
        return Reservation(max(one.tokens for one in most), max(one.usd for one in most))

    def _replies(self, choice: Choice, drafts: int) -> list[int]:
        """For every reply that may be needed, how many went before it in its conversation."""
        turns = list(range(1 + self.settings.tries))
        conversations = 1 + drafts if choice.operator == "plan" else self.settings.k
        return turns * conversations + [0] * choice.explains

    def calls(self, number: int, model: Model) -> Calls:
        """The calls of a proposal."""
        return Calls(self.archive, self.answers, number, model, self._is_stopped)

    def _is_stopped(self) -> bool:
        return self.stopped

    async def propose(self, request: Request, random: "Generator") -> Draft:
        """As many drafts as `request` is for. When no reply can be used, the source of a draft is what was in
        the last one, and its detail says what is wrong with it.
        """
        if not request.choice:
            request = self.choosing.choose(request, random)
        choice = Choice.read(request.choice)
        # the environment may name another model than when the choice was noted
        model = self.models.get(choice.model) or next(iter(self.models.values()))
        calls = self.calls(request.number, model)
        if choice.explains:
            prompt = self.prompts.render(EXPLAIN, request)
            told = await calls.ask((Message("user", prompt),), EXPLAIN)
            request = replace(request, lessons=read_lessons(told.reply) or request.lessons)
        asking = self._planned if choice.operator == "plan" else self._sampled
        attempts = await asking(choice.operator, request, calls)
        return self._drafts(choice.operator, request, calls, attempts)

    async def _sampled(self, operator: OperatorName, request: Request, calls: Calls) -> list[Attempt]:
        """The programs of `k` replies to one prompt that are to be evaluated."""
        talk, parent = self._talk(operator, calls), request.parents[0].source
        conversation: Conversation = (Message("user", self.prompts.render(operator, request)),)
        read = self._reader(operator, request)
        samples = [
            asyncio.create_task(talk.attempt(conversation, parent, read, sample))
            for sample in range(self.settings.k)
        ]
        return await best_of(samples, request.drafts, self.settings.keep)

    async def _planned(self, operator: OperatorName, request: Request, calls: Calls) -> list[Attempt]:
        """The programs of the most different ones among several plans."""
        talk, parent = self._talk(operator, calls), request.parents[0].source
        asked: Conversation = (Message("user", self.prompts.render(operator, request)),)
        heard = await talk.hear(asked, lambda reply: read_plans(reply, request.drafts))
        if heard.read is None:
            return [Attempt(heard.source, heard.error, Thinking(0, 0), 0.0)]
        attempts, read = [], self._reader(operator, request)
        for plan in most_different(heard.read, request.drafts):
            # of what was said about plans, only the plans: the rest would be paid for with every program
            code = answered(asked, as_list(heard.read), self.prompts.code(plan))
            attempts.append(await talk.attempt(code, parent, read))
        return attempts

    def _talk(self, operator: OperatorName, calls: Calls) -> Talk:
        return Talk(calls, operator, self.settings.tries, self.prompts.complaint)

    def _reader(self, operator: OperatorName, request: Request) -> Callable[[str], str]:
        """Reads the program in a reply; raises ReplyError for what makes no proposal of this operator."""
        shown = (request.parents[0], *others_of(operator, request))
        sources = tuple(parent.source for parent in shown)

        def read(reply: str) -> str:
            source = read_program(reply, sources, self.required)
            if operator == "simplify":
                require_shorter(source, sources[0])
            elif self._normal(source) in self.examples | set(map(self._normal, sources)):
                raise ReplyError(
                    "The program is the same as one that was shown, but for names, comments and layout. "
                    "Change what it does.",
                    source,
                )
            if objections := self.objections(source):
                raise ReplyError(objections, source)
            return source

        return read

    def _normal(self, source: str) -> str:
        return normal_hash(source, self.names)

    def _drafts(
        self, operator: OperatorName, request: Request, calls: Calls, attempts: list[Attempt]
    ) -> Draft:
        """Attempts as drafts, the first of which has the others; nothing stands in for what did not come."""
        shown = (request.parents[0], *others_of(operator, request))
        missing = request.drafts - len(attempts)
        attempts = attempts + [Attempt("", "No program came of it.", Thinking(0, 0), 0.0)] * missing
        used = [call for call in calls.used if call.operator != EXPLAIN]
        drafts = [
            Draft(
                operator,
                tuple(parent.hash for parent in shown),
                attempt.source[:LONGEST_SOURCE] if attempt.error else attempt.source,
                detail=attempt.error,
                effort=Effort(
                    model=calls.model.name,
                    tokens=sum(call.tokens_in + call.tokens_out for call in used) // request.drafts,
                    tokens_reasoning=attempt.thinking.tokens,
                    cost_usd=fsum(call.cost_usd for call in used) / request.drafts,
                    changed=attempt.thinking.changed,
                    patterns=tuple(pattern.value for pattern in attempt.thinking.patterns),
                ),
            )
            for attempt in attempts
        ]
        return replace(
            drafts[0],
            tokens=sum(call.tokens_in + call.tokens_out for call in calls.made),
            cost_usd=fsum(call.cost_usd for call in calls.made),
            more=tuple(drafts[1:]),
        )


def _most(model: Model, prompt: int, replies: list[int]) -> Reservation:
    """What replies of the greatest length take, each after a prompt of so many tokens and those before it."""
    tokens_in = sum(prompt + before * model.max_tokens for before in replies)
    tokens_out = len(replies) * model.max_tokens
    return Reservation(tokens_in + tokens_out, model.cost_usd(tokens_in, tokens_out))
