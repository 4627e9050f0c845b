"""What a server sends back, read leniently: the dialects of the chat-completions protocol differ."""

import json
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from evolve.llm.gate import CallError

LONGEST_REPLY = 200_000  # characters that are kept; a program has at most a tenth of them
CHARACTERS_PER_TOKEN = 3  # of code and English rather more: an estimate is to be on the safe side


@dataclass(frozen=True)
class Reply:
    """One answer of a model. `text` is without its reasoning, and "" where there was none.

    `tokens_out` includes `tokens_reasoning`. `estimated` says that the server did not count tokens.
    """

    text: str
    reasoning: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_reasoning: int = 0
    model: str = ""
    latency_s: float = 0.0
    finish_reason: str = ""
    estimated: bool = False


class _Reasoned(BaseModel):
    reasoning_tokens: int | None = Field(None, ge=0)


class _Usage(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    total_tokens: int | None = Field(None, ge=0)
    completion_tokens_details: _Reasoned | None = None


class _Message(BaseModel):
    content: Any = None
    refusal: Any = None
    reasoning: Any = None  # vLLM and OpenRouter
    reasoning_content: Any = None  # llama.cpp and DeepSeek


class _Choice(BaseModel):
    message: _Message | None = None
    finish_reason: str | None = None


class _Body(BaseModel):
    choices: list[_Choice] | None = None
    model: Any = None
    usage: Any = None
    error: Any = None


def read_reply(body: str, prompt_characters: int, latency_s: float) -> Reply:
    """The reply in the body of an HTTP response with status 200. Raises CallError for what is none."""
    try:
        read = _Body.model_validate(json.loads(body))
    except (ValueError, RecursionError) as error:  # of JSON and of pydantic
        start = body.strip()[:80]
        raise CallError(f"it does not speak the chat-completions protocol, but says {start!r}") from error
    if read.error and not read.choices:  # a relay that could not reach the model says so with status 200
        raise CallError(f"it says {str(read.error)[:200]!r}")
    choice = read.choices[0] if read.choices else _Choice()
    message = choice.message or _Message()
    answer = _text(message.content) or _text(message.refusal)
    reasoning = _text(message.reasoning_content) or _text(message.reasoning)
    if not answer and choice.finish_reason == "stop":
        # done thinking, nothing said: a server that takes the whole answer for reasoning
        answer, reasoning = reasoning, ""
    used = _usage(read.usage)
    return _counted(
        Reply(
            text=answer[:LONGEST_REPLY],
            reasoning=reasoning[:LONGEST_REPLY],
            model=_text(read.model),
            latency_s=latency_s,
            finish_reason=choice.finish_reason or "",
        ),
        used,
        prompt_characters,
        len(answer) + len(reasoning),
    )


def _counted(reply: Reply, used: _Usage | None, prompt_characters: int, characters: int) -> Reply:
    """`reply` with its tokens, as the server counted them or as estimated from the characters."""
    if used is None:
        tokens_in, tokens_out = _estimate(prompt_characters), _estimate(characters)
    else:
        tokens_in, tokens_out = used.prompt_tokens, used.completion_tokens
        if used.total_tokens is not None:  # some leave reasoning out of completion_tokens, but not out of it
            tokens_out = max(tokens_out, used.total_tokens - tokens_in)
    details = used.completion_tokens_details if used else None
    if details is not None and details.reasoning_tokens is not None:
        tokens_reasoning = details.reasoning_tokens
    else:
        tokens_reasoning = round(tokens_out * len(reply.reasoning) / max(1, characters))
    return replace(
        reply,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        tokens_reasoning=min(tokens_reasoning, tokens_out),
        estimated=used is None,
    )


def _usage(given: Any) -> _Usage | None:
    try:
        return _Usage.model_validate(given)
    except ValidationError:
        return None


def _estimate(characters: int) -> int:
    return ceil(characters / CHARACTERS_PER_TOKEN)


def _text(value: Any) -> str:
    """A string, or the text in a list of parts; what no request and no database may hold is replaced."""
    if isinstance(value, list):
        parts = [part for part in value if isinstance(part, dict) and part.get("type", "text") == "text"]
        value = "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    if not isinstance(value, str):
        return ""
    return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
