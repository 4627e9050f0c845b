"""Asks models over HTTP: limits, retries and back-off around the `openai` client."""

import asyncio
import email.utils
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from database.records import CallRecord
from evolve.llm.conversation import Conversation, with_reasoning
from evolve.llm.gate import CallError, Gate, Say, Sleep, backoff_s
from evolve.llm.questions import Question
from evolve.llm.reply import Reply, read_reply
from evolve.llm.settings import NO_KEY, Model
from kvolve import KvolveError

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

FAULTS_OF_ONE_CALL = 5  # while the endpoint answers others: it is this call, not the endpoint
MAY_PASS = frozenset({408, 409, 425, 429})
LONGEST_WORDS = 300  # characters of a server's message that are shown


class Transport:
    """Asks any number of models, side by side; models at one address share its gate.

    Keys are read from the environment and sent, and are taken out of everything that comes back.
    """

    def __init__(
        self,
        models: tuple[Model, ...],
        say: Say,
        *,
        give_up_s: float = 1800,
        environment: Mapping[str, str] = os.environ,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`say` tells the user. Raises KvolveError when a key is missing."""
        self.say = say
        self.sleep = sleep
        self.stopping = False
        self.keys = {model.name: model.key(environment) for model in models}
        self.slots = {model.name: asyncio.Semaphore(model.concurrency) for model in models}
        self.gates = {m.base_url: Gate(m.base_url, give_up_s, say, sleep, clock) for m in models}
        self.clients: dict[str, AsyncOpenAI] = {}
        self.proven: set[str] = set()  # models that have answered
        self.new_style: set[str] = set()  # models that want `max_completion_tokens`
        self.told: set[tuple[str, str]] = set()

    def stop(self) -> None:
        """Nobody waits for a server that does not answer; replies that come are still taken."""
        self.stopping = True
        for gate in self.gates.values():
            gate.waits = False

    async def close(self) -> None:
        """Closes all connections."""
        for client in self.clients.values():
            await client.close()

    async def answer(self, question: Question) -> CallRecord:
        """The call as it is stored: reply, tokens, and cost by the price table."""
        model = question.model
        reply = await self.ask(model, question.conversation)
        if not model.is_priced:
            self._tell(model, f"The price of {model.name} is not known: tokens are counted, USD are not.")
        if reply.estimated:
            self._tell(model, f"{model.name} does not count its tokens; they are estimated by characters.")
        return CallRecord(
            number=question.number,
            position=question.position,
            model=model.name,
            prompt=question.prompt,
            reply=with_reasoning(reply.text, reply.reasoning),
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            tokens_reasoning=reply.tokens_reasoning,
            cost_usd=model.cost_usd(reply.tokens_in, reply.tokens_out),
            latency_s=reply.latency_s,
            at=time.time(),
        )

    async def ask(self, model: Model, conversation: Conversation) -> Reply:
        """The reply of a model, after as many attempts as it takes.

        A call that fails while others are answered ends as a reply without text, whose `finish_reason` says
        why. Raises EndpointLostError when the endpoint stays dead, KvolveError for what no further attempt
        can mend, CancelledError when a call fails after `stop`.
        """
        gate = self.gates[model.base_url]
        own, others = 0, gate.answers
        attempts = 0
        while True:
            attempts += 1
            try:
                async with self.slots[model.name], gate.passage():
                    return await self._once(model, conversation)
            except CallError as fault:
                if self.stopping:
                    raise asyncio.CancelledError from None
                own += gate.answers > others
                others = gate.answers
                if own >= FAULTS_OF_ONE_CALL:
                    return self._without_text(model, str(fault))
                # what waits for a dead endpoint waits at its gate
                delay = max(fault.retry_after_s, backoff_s(attempts)) if gate.is_open else 0.0
                await self.sleep(delay)

    async def _once(self, model: Model, conversation: Conversation) -> Reply:
        import openai

        began = time.perf_counter()
        try:
            # the client's own limit is for each read: a server that drips would never reach it
            async with asyncio.timeout(model.timeout_s):
                response = await self._client(model).chat.completions.with_raw_response.create(
                    **self._request(model, conversation)
                )
        except (TimeoutError, openai.APITimeoutError):
            raise CallError(f"no reply within {model.timeout_s:g} s") from None
        except openai.APIConnectionError as error:
            raise CallError(self._hidden(model, str(error.__cause__ or error)) or "disconnected") from None
        except openai.APIStatusError as error:
            # `from None`: the exception holds the request, and with it the key
            if self._wants_new_style(model, error):
                return await self._once(model, conversation)
            return self._refused(model, error)
        length = sum(len(message.text) for message in conversation)
        body = self._hidden(model, response.http_response.content.decode("utf-8", "replace"))
        reply = read_reply(body, length, time.perf_counter() - began)
        self.proven.add(model.name)
        return reply

    def _request(self, model: Model, conversation: Conversation) -> dict[str, Any]:
        limit = "max_completion_tokens" if model.name in self.new_style else "max_tokens"
        chosen = {"temperature": model.temperature, "reasoning_effort": model.reasoning_effort}
        return {
            "model": model.model,
            "messages": [{"role": message.role, "content": message.text} for message in conversation],
            limit: model.max_tokens,
            **{name: value for name, value in chosen.items() if value is not None},
        }

    def _wants_new_style(self, model: Model, error: "APIStatusError") -> bool:
        """OpenAI's reasoning models refuse `max_tokens`, older servers do not know the new name."""
        hinted = error.status_code == 400 and "max_completion_tokens" in str(error)
        if not hinted or model.name in self.new_style:
            return False
        self.new_style.add(model.name)
        return True

    def _refused(self, model: Model, error: "APIStatusError") -> Reply:
        """Raises CallError or KvolveError, or returns a reply without text if only this call is refused."""
        status, words = error.status_code, self._words(model, error)
        if error.code == "insufficient_quota" or status == 402:
            raise KvolveError(f"{model.base_url} wants to be paid first ({words}).") from None
        if status in MAY_PASS or status >= 500:
            raise CallError(words, _retry_after_s(error.response.headers)) from None
        if status in (401, 403):
            variable = model.key_variable or "an environment variable, and name it by 'api_key_env'"
            raise KvolveError(
                f"{model.base_url} refuses the key ({words}). Put a valid one into {variable}."
            ) from None
        if status == 404:
            raise KvolveError(
                f"{model.base_url} does not know the model {model.model!r}, or the address is wrong "
                f"({words}). Correct 'model' or 'base_url'."
            ) from None
        if model.name not in self.proven:
            raise KvolveError(
                f"{model.base_url} refuses what it is asked ({words}). Correct the settings of the model "
                f"{model.name!r}."
            ) from None
        return self._without_text(model, words)

    def _without_text(self, model: Model, why: str) -> Reply:
        self._tell(model, f"{model.name} fails at some calls ({why}); each of them counts as an empty reply.")
        return Reply("", model=model.model, finish_reason=f"error: {why}")

    def _words(self, model: Model, error: "APIStatusError") -> str:
        """Status and message of a refusal, without the key that some servers repeat."""
        body: Any = error.body
        said = body.get("message") if isinstance(body, dict) else None
        said = str(said or error.response.text or error.response.reason_phrase)
        said = " ".join(self._hidden(model, said).split())
        return f"HTTP {error.status_code}: {said[:LONGEST_WORDS]}"

    def _hidden(self, model: Model, text: str) -> str:
        """`text` with the key of the model struck out."""
        key = self.keys[model.name]
        return text if key == NO_KEY else text.replace(key, "***")

    def _tell(self, model: Model, message: str) -> None:
        """Says something of a model to the user, once; details in brackets do not make it new."""
        if (note := (model.name, message.partition("(")[0])) not in self.told:
            self.told.add(note)
            self.say(message)

    def _client(self, model: Model) -> "AsyncOpenAI":
        from openai import AsyncOpenAI

        if model.name not in self.clients:
            self.clients[model.name] = AsyncOpenAI(
                base_url=model.base_url,
                api_key=self.keys[model.name],
                max_retries=0,
                timeout=model.timeout_s,
            )
        return self.clients[model.name]


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks for: a number, or a date. 0 if it does not, or not in a way one can read."""
    given = headers.get("retry-after", "")
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    except ValueError:
        return 0.0
