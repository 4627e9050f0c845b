"""What a model does on a compressed cache: on a continuation, and asked about what it has read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evaluators.kv_eviction.compression import Tokens, Written, caches_of, compressed, paid, planned
from evaluators.kv_eviction.decoding import appended
from evaluators.kv_eviction.running import Caches, log_probabilities
from evaluators.kv_eviction.storage import PLAIN
from evaluators.kv_eviction.workloads import MEASURED, Cached, full_caches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluators.kv_eviction.contexts import Context
    from evaluators.kv_eviction.prefilled import Entry

RANDOM_DRAWS = 2  # of random eviction, whose mean is where scores begin


@dataclass(frozen=True)
class Reference:
    """What the full cache gives."""

    log_probs: torch.Tensor  # [C, V] of the continuation
    nll: float  # mean over the continuation
    answers: "NDArray[np.float64]"  # [conversations, 2] mean over the tokens of an answer


@dataclass(frozen=True)
class Measured:
    """What a cache does in a model, in nats a token."""

    kl: "NDArray[np.float64]"  # [C], of the next token, from the full cache
    nll: float  # excess over the full cache on the continuation
    answers: "NDArray[np.float64]"  # [conversations, 2], excess: first and second question
    found: "NDArray[np.float64]"  # [conversations, 2], whether each token of the answer is the likeliest


def reference(model: Any, cached: Cached) -> Reference:
    """The full cache, run in the same way as a compressed one."""
    ran = _run(model, cached, full_caches(cached))
    return Reference(ran.log_probs, ran.nll, ran.answers)


def measure(model: Any, cached: Cached, tokens: Sequence[Tokens], exact: Reference) -> Measured:
    """What a compressed cache does; where nothing was dropped, exactly what the full one does."""
    ran = _run(model, cached, caches_of(cached.context.layers, tokens, cached.windows))
    kl = (exact.log_probs.exp() * (exact.log_probs - ran.log_probs)).sum(-1).clamp(min=0)
    return Measured(kl.double().numpy(), ran.nll - exact.nll, ran.answers - exact.answers, ran.found)


def future_attention(model: Any, cached: Cached) -> "list[NDArray[np.float16]]":
    """What is going to be attended to, for bounds: of each layer that is compressed, the mean attention
    [G, branches, N] of what follows the context, branch by branch.
    """
    entry, length = cached.context.entry, cached.context.length
    branches, rows, _ = branches_of(entry)
    ends = np.cumsum([len(branch) for branch in branches])
    caches = full_caches(cached)
    found: dict[int, NDArray[np.float16]] = {}

    def see(layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        if layer not in cached.context.layers:
            return
        plain = cached.tokens[cached.context.layers.index(layer)]
        means = []
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            at = np.arange(length, length + end - begin)
            tokens = appended(plain, keys[:, begin:end], values[:, begin:end], at)
            received, _ = paid(queries[:, begin:end], tokens, at)
            means.append(received[:, :length])
        found[layer] = torch.stack(means, 1).half().numpy()

    log_probabilities(model, branches, length, caches, rows=rows[:1], see=see)
    return [found[layer] for layer in cached.context.layers]


def random_eviction(cached: Cached, budget: float, draw: int) -> list[Tokens]:
    """The cache after random tokens have left each head."""
    generator = np.random.default_rng((draw, cached.context.length))
    shapes = [tokens.positions.shape for tokens in cached.tokens]
    scores = [generator.random(shape, np.float32) for shape in shapes]
    weights = np.ones((len(shapes), shapes[0][0]))
    plan = planned(cached.tokens, scores, weights, [PLAIN] * len(shapes), budget * cached.bytes)
    return compressed(cached.tokens, plan, [Written()] * len(shapes))


def branches_of(entry: "Entry | Context") -> tuple[list[list[int]], list[int], list[tuple[int, int]]]:
    """What follows a context: its branches, the rows whose predictions are measured, and for each answer
    how many rows it has, first and last.
    """
    branches = [list(entry.continuation[:MEASURED])]
    rows = list(range(MEASURED))
    spans = []
    begin = MEASURED
    for conversation in entry.conversations:
        branch: list[int] = []
        for asked in conversation:
            branch += asked.question
            first = begin + len(branch) - 1
            spans.append((len(rows), len(rows) + len(asked.answer)))
            rows += range(first, first + len(asked.answer))
            branch += asked.answer
        branches.append(branch[:-1])  # what follows the last token is not asked for
        begin += len(branch) - 1
    return branches, rows, spans


@dataclass(frozen=True)
class _Ran:
    """One forward pass over what follows a context."""

    log_probs: torch.Tensor  # [C, V] of the continuation
    nll: float
    answers: "NDArray[np.float64]"  # [conversations, 2] mean over the tokens of an answer
    found: "NDArray[np.float64]"


def _run(model: Any, cached: Cached, caches: Caches) -> _Ran:
    entry = cached.context.entry
    branches, rows, spans = branches_of(entry)
    log_probs = log_probabilities(model, branches, cached.context.length, caches, rows=rows)
    following = torch.tensor(entry.continuation[1 : MEASURED + 1])[:, None]
    nll = -float(log_probs[:MEASURED].gather(1, following).mean())
    asked = [part for conversation in entry.conversations for part in conversation]
    answers, found = [], []
    for (begin, end), part in zip(spans, asked, strict=True):
        right = torch.tensor(part.answer)
        answers.append(-float(log_probs[begin:end].gather(1, right[:, None]).mean()))
        found.append(float((log_probs[begin:end].argmax(-1) == right).all()))
    shape = (len(entry.conversations), 2)
    return _Ran(log_probs[:MEASURED], nll, np.array(answers).reshape(shape), np.array(found).reshape(shape))
