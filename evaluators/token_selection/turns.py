"""The turns that one process of a candidate takes, as the judge gives them and checks what comes back.

Whatever comes back may have been written by a candidate: nothing of it is trusted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.recording import prompt_positions
from evaluators.token_selection.artefacts import learnt
from evaluators.token_selection.kept import Kept, receive
from evaluators.token_selection.meter import Meter
from evaluators.token_selection.workloads import Case, dense_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluators.token_selection.scoring import Played
    from evaluators.token_selection.workloads import Layer, Workload

MOST_KEPT = 8  # times the dense bytes of a layer that its policy may keep
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Step:
    """A turn: select for one case. Draws above 0 differ in the random numbers only."""

    case: Case
    draw: int = 0


@dataclass(frozen=True)
class Decision:
    """What a policy selected in one step, and what it read besides."""

    counts: "NDArray[np.int32]"  # [H]
    indices: "NDArray[np.int32]"  # head after head
    probabilities: "NDArray[np.float32]"
    beyond_bytes: int
    index_bytes: int


@dataclass(frozen=True)
class Build:
    """One policy for each layer of each context sees the keys up to the first step."""

    workload: "Workload"
    pairs: list[tuple[int, int]]  # context and layer

    def told(self) -> dict[str, np.ndarray]:
        """What the process is told at its beginning."""
        return {
            "count": np.array(len(self.pairs)),
            "positions": np.array(prompt_positions(self.workload.prefill), np.int64),
            "layers": np.array(self.workload.told(0)[1]),
        }

    def answer(self, question: str, asked: Arrays) -> dict[str, np.ndarray]:
        """The keys of one turn [G, N, D], in two parts, queries of the prompt [P, H, D], or what was
        learnt before.
        """
        context, number = self.pairs[_turn(asked, len(self.pairs))]
        if question == "learnt":
            return learnt(self.workload.weights_sha256, self.workload.numbers[number])
        layer, prefill = self.workload.contexts[context][number], self.workload.prefill
        match question:
            case "prefill":
                rows = layer.keys[:, :prefill]
            case "prompt_queries":
                rows = layer.prompt_queries
            case "tokens":  # each step pays for its own token; those before the first step come here
                rows = layer.keys[:, prefill : self.workload.length(0) - 1]
            case _:
                raise out_of_turn()
        return {"rows": rows, "spent": np.array(0)}

    def states(self, arrays: Arrays) -> Iterator[Kept]:
        """The checked state of each policy."""
        for turn, (context, layer) in enumerate(self.pairs):
            yield receive(arrays, f"{turn}.", [], _most_kept(self.workload.contexts[context][layer]))


@dataclass(frozen=True)
class Play:
    """Policies take one decode step each, all with the same number of cached tokens."""

    workload: "Workload"
    steps: list[Step]
    kept: list[Kept]
    shares: list[list[float]]  # [B][L]
    keep: bool  # whether the states afterwards are those of further steps
    oracle: bool
    meters: list[Meter] = field(init=False)

    def __post_init__(self) -> None:
        new = self.length - self.seen
        meters = [
            Meter(self._layer(step), self.length, kept, new, self.oracle)
            for step, kept in zip(self.steps, self.kept, strict=True)
        ]
        object.__setattr__(self, "meters", meters)

    @cached_property
    def length(self) -> int:
        return self.workload.length(self.steps[0].case.step)

    @cached_property
    def seen(self) -> int:
        """How many of these tokens the policies know already."""
        step = self.steps[0].case.step
        return self.workload.length(step - 1) if step else self.length - 1

    def told(self) -> dict[str, np.ndarray]:
        """What the process is told at its beginning."""
        cases = [step.case for step in self.steps]
        layers = [self._layer(step) for step in self.steps]
        seeds = [self.workload.seed(step.case, step.draw) for step in self.steps]
        budgets = [self.workload.budgets[c.budget] * self.shares[c.budget][c.layer] for c in cases]
        heads, (kv_heads, _, size) = layers[0].queries.shape[1], layers[0].keys.shape
        shapes = [(heads, kv_heads, self.length, size, *self.workload.told(c.layer)) for c in cases]
        told = {
            "shapes": np.array(shapes, np.int64),  # [T, 6]
            "queries": np.stack([ly.queries[c.step] for ly, c in zip(layers, cases, strict=True)]),
            "tokens": np.stack([layer.keys[:, self.seen : self.length] for layer in layers]),
            "seeds": np.array(seeds, np.int64),
            "budgets": np.minimum(1.0, np.array(budgets, np.float64)),
            "spent": np.array([meter.spent() for meter in self.meters], np.int64),
            "keep": np.array(self.keep),
        }
        if goals := [self.workload.goals[c.budget] for c in cases if self.workload.goals]:
            told["goals"] = np.array([goal[:2] for goal in goals], np.float64)  # [T, 2]
            told["quantity"] = np.frombuffer(goals[0].quantity.encode(), np.uint8)
        for turn, kept in enumerate(self.kept):
            told |= kept.arrays(f"{turn}.")
        return told

    def answer(self, question: str, asked: Arrays) -> dict[str, np.ndarray]:
        """What a policy reads in one turn."""
        return self.meters[_turn(asked, len(self.meters))].answer(question, asked)

    def states(self, arrays: Arrays) -> Iterator[Kept]:
        """The checked state of each policy after its step, for those that go on."""
        for turn, (step, meter) in enumerate(zip(self.steps, self.meters, strict=True)):
            if self.keep:
                kept = receive(arrays, f"{turn}.", meter.indices, _most_kept(self._layer(step)))
                meter.written_bytes += kept.new_bytes
                yield kept

    def decisions(self, arrays: Arrays) -> Iterator[Decision]:
        """The checked selections; call it after `states`, whose new indices are part of the costs."""
        heads = self._layer(self.steps[0]).queries.shape[1]
        counts = _array(arrays, "counts", np.int32, (len(self.steps), heads))
        if counts.min() < 1 or counts.max() > self.length:
            raise CandidateError(
                FailureKind.INVALID_OUTPUT,
                "A head selected no token at all, or one twice; each reads at least one.",
            )
        ends = np.cumsum(counts.sum(1, dtype=np.int64))
        indices = _array(arrays, "indices", np.int32, (int(ends[-1]),))
        probabilities = _array(arrays, "probabilities", np.float32, (int(ends[-1]),))
        if indices.min() < 0 or indices.max() >= self.length:
            raise CandidateError(
                FailureKind.INVALID_OUTPUT,
                f"indices have to be integers from -1 (padding) to {self.length - 1} (the newest token).",
            )
        if not ((probabilities > 0) & (probabilities <= 1)).all():  # NaN is neither
            raise CandidateError(FailureKind.INVALID_OUTPUT, "Inclusion probabilities have to lie in (0, 1].")
        for turn, meter in enumerate(self.meters):
            part = slice(int(ends[turn - 1]) if turn else 0, int(ends[turn]))
            chosen = indices[part]
            beyond = meter.beyond(np.repeat(np.arange(heads), counts[turn]), chosen, heads)
            yield Decision(counts[turn], chosen, probabilities[part], beyond, meter.index_bytes())

    def _layer(self, step: Step) -> "Layer":
        return self.workload.contexts[step.case.context][step.case.layer]


def flat(decisions: Sequence[Decision]) -> "Played":
    """Decisions one after the other, as the scoring takes them."""
    return {
        "counts": np.stack([decision.counts for decision in decisions]),
        "indices": np.concatenate([decision.indices for decision in decisions]),
        "probabilities": np.concatenate([decision.probabilities for decision in decisions]),
        "beyond_bytes": np.array([decision.beyond_bytes for decision in decisions], np.int64),
        "index_bytes": np.array([decision.index_bytes for decision in decisions], np.int64),
    }


def _turn(asked: Arrays, count: int) -> int:
    turn = asked.get("turn")
    if turn is None or turn.shape != () or turn.dtype.kind not in "iu" or not 0 <= int(turn) < count:
        raise out_of_turn()
    return int(turn)


def _array(arrays: Arrays, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    found = arrays.get(name)
    if found is None or found.dtype != dtype or found.shape != shape:
        raise CandidateError(FailureKind.INVALID_OUTPUT, f"{name} has to be {dtype.__name__} {list(shape)}.")
    return found


def _most_kept(layer: "Layer") -> int:
    kv_heads, tokens, size = layer.keys.shape
    return MOST_KEPT * dense_bytes(kv_heads, tokens, size)


def out_of_turn() -> CandidateError:
    return CandidateError(FailureKind.INVALID_OUTPUT, "The judge was asked out of turn.")


def layer_shares(given: np.ndarray | None, workload: "Workload") -> list[list[float]]:
    """Per budget, each layer's multiple of it; mean 1, none above 100% of the layer's dense traffic."""
    told, counts = zip(*(workload.told(layer) for layer in range(workload.layers)), strict=True)
    count = counts[0]
    if given is None:
        return [[1.0] * workload.layers for _ in workload.budgets]
    if given.shape != (count,) or given.dtype != np.float64 or not (np.isfinite(given) & (given > 0)).all():
        raise CandidateError(
            FailureKind.INTERFACE,
            f"layer_shares({count}) has to return {count} positive numbers; it gave "
            f"{given.ravel()[:99].tolist()}.",
        )
    return [capped([float(given[layer]) for layer in told], 1 / budget) for budget in workload.budgets]


def capped(shares: list[float], cap: float) -> list[float]:
    """Scales shares to mean 1 with none above `cap` (>= 1); what the cap cuts off goes to the others."""
    held: set[int] = set()
    while True:
        free = [number for number in range(len(shares)) if number not in held]
        if not free:
            return [min(1.0, cap)] * len(shares)
        scale = (len(shares) - cap * len(held)) / sum(shares[number] for number in free)
        over = {number for number in free if shares[number] * scale > cap}
        if not over:
            return [cap if number in held else share * scale for number, share in enumerate(shares)]
        held |= over
