"""What a compressed cache is worth: KL and answers, each from random eviction (0) to the full cache (1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evaluators.evaluation import Verdict
from evaluators.kv_eviction.compression import Tokens, plain_bytes
from evaluators.kv_eviction.turn import Turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluators.kv_eviction.measuring import Measured

FIGURES = ("kl", "random_kl", "answers", "random_answers")  # of each context and budget, in samples


@dataclass(frozen=True)
class Shape:
    """What a compressed cache looks like."""

    spread: float  # standard deviation of the bytes of heads, relative to their mean
    recency: float  # mean place of what is kept, 0 the first token, 1 the newest
    overhead: float  # share of the bytes that are no plain copies of numbers
    tokens: float  # kept, as a share


@dataclass(frozen=True)
class Outcome:
    """One context at one budget."""

    measured: "Measured"
    random: tuple[float, float]  # KL and excess of answers after random eviction
    shape: Shape
    decoded_kl: float | None  # while text was generated with a bounded cache


def shape_of(turn: Turn) -> Shape:
    """What the result of a turn looks like."""
    assert turn.plan is not None
    assert turn.result is not None
    bytes_ = np.array([[head.bytes for head in layer] for layer in turn.plan.heads])
    size = turn.tokens[0].keys.shape[2]
    numbers = 0.0
    for layer, form, rewritten in zip(turn.plan.heads, turn.plan.formats, turn.rewritten, strict=True):
        for head in layer:
            if head.plain:
                numbers += plain_bytes(len(head.kept), size)
            elif not rewritten and head.bytes:
                counts = form.sizes(len(head.kept))
                numbers += sum(
                    count * form.numbers(tier, size) for count, tier in zip(counts, form.tiers, strict=True)
                )
    kept = [places[places >= 0] for tokens in turn.result for places in tokens.positions]
    cached = sum(int(tokens.sizes.sum()) for tokens in turn.tokens)
    return Shape(
        spread=float(bytes_.std() / max(bytes_.mean(), 1e-9)),
        recency=float(np.concatenate(kept).mean() / max(1, turn.length - 1)),
        overhead=max(0.0, 1 - numbers / max(bytes_.sum(), numbers, 1e-9)),
        tokens=sum(map(len, kept)) / cached,
    )


def score_of(samples: "NDArray[np.float64]") -> float:
    """The score; samples [contexts, B, 4] hold `FIGURES`."""
    return float(scaled(samples).mean())


def scaled(samples: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Of each budget [B, 2]: KL and answers between random eviction and the full cache.

    Ratios of means over contexts: where random eviction costs little, a context counts little.
    """
    kl, random_kl, answers, random_answers = np.moveaxis(samples.mean(0), -1, 0)
    floor = 1e-3  # where even random eviction costs nothing
    found = [1 - kl / np.maximum(random_kl, floor), 1 - answers / np.maximum(random_answers, floor)]
    return np.stack(found, -1)


def verdict(budgets: Sequence[float], outcomes: Sequence[Sequence[Outcome]], behaviour: str) -> Verdict:
    """The verdict on outcomes [contexts][budgets]."""
    samples = np.array(
        [
            [
                (one.measured.kl.mean(), one.random[0], one.measured.answers.mean(), one.random[1])
                for one in of
            ]
            for of in outcomes
        ]
    )
    parts = scaled(samples)
    metrics: dict[str, float] = {}
    lines = []
    for number, budget in enumerate(budgets):
        at = f"@{budget:.1%}"
        of = [context[number] for context in outcomes]
        answers = np.array([one.measured.answers for one in of]).mean((0, 1))  # first and second question
        found = {
            "kl": float(samples[:, number, 0].mean()),
            "nll": float(np.mean([one.measured.nll for one in of])),
            "first_answer": float(answers[0]),
            "second_answer": float(answers[1]),
            "found": float(np.mean([one.measured.found for one in of])),
            "kl_score": float(parts[number, 0]),
            "answer_score": float(parts[number, 1]),
            "tokens": float(np.mean([one.shape.tokens for one in of])),
        }
        if decoded := [one.decoded_kl for one in of if one.decoded_kl is not None]:
            found["decoded_kl"] = float(np.mean(decoded))
        metrics |= {name + at: value for name, value in found.items()}
        lines.append(
            f"{budget:.1%} of the bytes: KL {found['kl']:.4f} (scaled {found['kl_score']:.3f}), answers cost "
            f"{answers[0]:.3f} and, asked second, {answers[1]:.3f} nats a token beyond the full cache "
            f"(scaled {found['answer_score']:.3f}); {found['tokens']:.1%} of the tokens are kept."
        )
    by_context = samples[:, :, 2].mean(1)
    worst = int(by_context.argmax())
    lines.append(f"Answers of context {worst} cost most: {by_context[worst]:.3f}.")
    shapes = [one.shape for context in outcomes for one in context]
    descriptors = {
        name: float(np.mean([getattr(shape, name) for shape in shapes]))
        for name in ("spread", "recency", "overhead")
    }
    lines += [f"{name}: {value:.3f}" for name, value in descriptors.items()]
    return Verdict(
        behaviour=behaviour,
        score=score_of(samples),
        metrics=metrics,
        descriptors=descriptors,
        feedback="\n".join(lines),
        samples=samples.tolist(),
    )


def digest_of(result: Sequence[Tokens]) -> bytes:
    """What tells one compressed cache from another."""
    parts = []
    for tokens in result:
        parts += [tokens.positions.tobytes(), tokens.keys.numpy().tobytes(), tokens.values.numpy().tobytes()]
        if tokens.counts is not None:
            parts.append(tokens.counts.numpy().tobytes())
    return b"".join(parts)
