"""One compression of a cache, as the judge leads a candidate through it and checks what comes back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.kv_eviction.compression import Plan, Tokens, Written, compressed, planned
from evaluators.kv_eviction.storage import PLAIN, Format, checked_format

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = Mapping[str, np.ndarray]
MOST_STATE = 8  # numbers that are remembered of a token
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Shown:
    """What a policy is shown of a layer besides its cache."""

    queries: "NDArray[Any]"  # [H, W, D]
    query_mean: "NDArray[Any]"  # [H, D]
    query_covariance: "NDArray[Any]"  # [H, D, D]
    received: "NDArray[Any]"  # [blocks, G, n]
    frequent: "NDArray[Any]"
    learnt: "Mapping[str, NDArray[Any]]"
    future: "NDArray[np.float16] | None" = None  # [G, branches, n], for bounds only


@dataclass
class Turn:
    """A cache that has to fit into so many bytes; `result` is what it is afterwards."""

    budget: float  # as a policy is told
    total_bytes: float
    length: int  # tokens so far
    tokens: Sequence[Tokens]
    shown: Sequence[Shown]
    again: bool = False  # whether it is the cache of the turn before, at another budget
    plan: Plan | None = None
    states: "list[NDArray[np.float16]] | None" = None
    result: list[Tokens] | None = None
    rewritten: list[bool] = field(default_factory=list)

    def told(self) -> dict[str, np.ndarray]:
        """What a policy is told at the beginning."""
        return {
            "budget": np.array(self.budget),
            "length": np.array(self.length),
            "layers": np.array(len(self.tokens)),
            "again": np.array(self.again),
        }

    def answer(self, question: str, asked: Arrays) -> dict[str, np.ndarray]:
        """What a policy is shown of one layer, or what each block of queries paid to its tokens."""
        number = asked.get("layer")
        if (
            number is None
            or number.shape != ()
            or number.dtype.kind not in "iu"
            or not 0 <= number < len(self.tokens)
        ):
            raise out_of_turn()
        tokens, shown = self.tokens[int(number)], self.shown[int(number)]
        match question:
            case "blocks":
                return {"received": shown.received, "frequent": shown.frequent}
            case "layer":
                told = {
                    "keys": tokens.keys.half().numpy(),
                    "values": tokens.values.half().numpy(),
                    "positions": tokens.positions,
                    "queries": shown.queries,
                    "query_mean": shown.query_mean,
                    "query_covariance": shown.query_covariance,
                }
                if shown.future is not None:
                    told["future"] = shown.future
                if tokens.state is not None:
                    told["state"] = tokens.state
                if tokens.counts is not None:
                    told["counts"] = tokens.counts.numpy()
                return told | {f"learnt.{name}": part for name, part in shown.learnt.items()}
        raise out_of_turn()

    def scored(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """What stays of each layer, by what a policy has said of all of them."""
        if self.plan is not None:
            raise out_of_turn()
        shapes = [tokens.positions.shape for tokens in self.tokens]
        scores = [_array(arrays, f"scores.{n}", np.float32, shape) for n, shape in enumerate(shapes)]
        for layer, tokens in zip(scores, self.tokens, strict=True):
            among = layer[tokens.positions >= 0]
            if np.isnan(among).any() or np.isneginf(among).any():
                raise CandidateError(
                    FailureKind.INVALID_OUTPUT, "Scores have to be finite, or +inf for what is protected."
                )
        weights = np.ones((len(shapes), shapes[0][0]))
        if "weights" in arrays:
            weights = _array(arrays, "weights", np.float64, weights.shape)
            if not (np.isfinite(weights) & (weights > 0)).all():
                raise CandidateError(
                    FailureKind.INVALID_OUTPUT, "allocate has to return positive, finite shares [L, G]."
                )
        self.states = self._states(arrays)
        cached = self._with_states()
        formats = [self._format(arrays, number) for number in range(len(shapes))]
        self.plan = planned(
            cached, scores, np.maximum(weights, weights.max() * 1e-6), formats, self.total_bytes
        )
        if self.plan.bytes > self.total_bytes * (1 + TOLERANCE):
            raise CandidateError(
                FailureKind.OVER_BUDGET,
                f"At a budget of {self.budget:.1%} one token of each head takes more bytes than there are.",
            )
        return {f"kept.{number}": self.plan.kept(number) for number in range(len(shapes))}

    def stored(self, arrays: Arrays) -> None:
        """The cache, once a policy has said what it writes."""
        if self.plan is None or self.result is not None:
            raise out_of_turn()
        written = [self._written(arrays, number) for number in range(len(self.tokens))]
        self.rewritten = [what.keys is not None for what in written]
        self.result = compressed(self._with_states(), self.plan, written)

    def _with_states(self) -> list[Tokens]:
        none: list[NDArray[np.float16] | None] = [None] * len(self.tokens)
        states = self.states or none
        return [
            Tokens(tokens.keys, tokens.values, tokens.positions, tokens.counts, state)
            for tokens, state in zip(self.tokens, states, strict=True)
        ]

    def _states(self, arrays: Arrays) -> "list[NDArray[np.float16]] | None":
        if "state.0" not in arrays:
            return None
        found = []
        for number, tokens in enumerate(self.tokens):
            given = arrays.get(f"state.{number}")
            if (
                given is None
                or given.dtype != np.float16
                or given.shape[:-1] != tokens.positions.shape
                or given.shape[-1] > MOST_STATE
            ):
                raise CandidateError(
                    FailureKind.INTERFACE, f"observe has to return [G, n, S] with S up to {MOST_STATE}."
                )
            found.append(given.copy())
        return found

    def _format(self, arrays: Arrays, number: int) -> Format:
        tiers, scalars = arrays.get(f"tiers.{number}"), arrays.get(f"format.{number}")
        if tiers is None or scalars is None:
            return PLAIN
        if tiers.dtype != np.float64 or scalars.dtype != np.float64:
            raise out_of_turn()
        return checked_format(tiers, scalars)

    def _written(self, arrays: Arrays, number: int) -> Written:
        assert self.plan is not None
        kv_heads, _, size = self.tokens[number].keys.shape
        shape = self.plan.kept(number).shape
        channels = arrays.get(f"channels.{number}")
        if channels is not None:
            channels = _finite(arrays, f"channels.{number}", (kv_heads, size))
        form = self.plan.formats[number]
        if f"keys.{number}" not in arrays:
            if form.counts:
                raise CandidateError(
                    FailureKind.INTERFACE, "`counts` needs a method merge that returns counts."
                )
            return Written(channels=_tensor(channels))
        keys = _finite(arrays, f"keys.{number}", (*shape, size))
        values = _finite(arrays, f"values.{number}", (*shape, size))
        counts = None
        if form.counts:
            counts = _finite(arrays, f"counts.{number}", shape)
            if (counts[self.plan.kept(number) >= 0] <= 0).any():
                raise CandidateError(FailureKind.INVALID_OUTPUT, "Counts have to be above 0.")
        return Written(_tensor(keys), _tensor(values), _tensor(counts), _tensor(channels))


def _tensor(array: "NDArray[Any] | None") -> torch.Tensor | None:
    return None if array is None else torch.from_numpy(array.copy())


def _finite(arrays: Arrays, name: str, shape: tuple[int, ...]) -> np.ndarray:
    found = _array(arrays, name, np.float32, shape)
    if not (np.abs(found) < np.finfo(np.float16).max).all():
        raise CandidateError(
            FailureKind.INVALID_OUTPUT, f"{name.partition('.')[0]} have to be finite and fit into fp16."
        )
    return found


def _array(arrays: Arrays, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    found = arrays.get(name)
    if found is None or found.dtype != dtype or found.shape != shape:
        got = "nothing" if found is None else list(found.shape)
        what = {
            "scores": "score",
            "weights": "allocate",
            "keys": "merge",
            "values": "merge",
            "counts": "merge",
        }
        method = what.get(name.partition(".")[0], name.partition(".")[0])
        raise CandidateError(
            FailureKind.INTERFACE, f"{method} has to return {list(shape)}; it returned {got}."
        )
    return found


def out_of_turn() -> CandidateError:
    """The error for what nobody may ask now."""
    return CandidateError(FailureKind.INVALID_OUTPUT, "The judge was asked out of turn.")
