"""What a policy does to a real model: its decode steps read what the policy selects, in every layer at once.

The figures of `scoring.py` are those of single layers, whose queries are the dense model's. Here a layer's
error changes the queries of all that follow. A candidate plays behind the same wall and is charged by the
same meter; but its state is not tried for what is hidden in it: that is done where scores are earned.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.corpus import passages_of, shipped_texts, user_texts
from evaluators.decoding import Dense, decode, dense
from evaluators.evaluation import CandidateError, FailureKind
from evaluators.models import load_model, weights_path, weights_sha256
from evaluators.tasks import KINDS, TASKS, pose
from evaluators.token_selection.dialogue import Dialogue, Phase
from evaluators.token_selection.estimator import attention_weights, dense_scores, weighted_values
from evaluators.token_selection.judge import oracles
from evaluators.token_selection.turns import Build, Decision, Play, Step, layer_shares
from evaluators.token_selection.workloads import BUDGETS, Case, Layer, Workload, dense_bytes
from kvolve import KvolveError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from evaluators.token_selection.kept import Kept

CONTEXTS = 16  # that a judge keeps: 50 MB each with the default model


class Abandoned(Exception):  # noqa: N818
    """Ends the model's thread: the candidate has failed, or is no longer waited for."""


def likened(layers: Sequence[float], recorded: Sequence[float]) -> tuple[int, ...]:
    """Which recorded layer each layer of a model is like, all given by their depth: the nearest one.

    The first layer is like none but itself: its attention is often as flat as no other's.
    """
    others = range(1, len(recorded)) if len(recorded) > 1 else range(1)
    return tuple(
        0 if depth <= recorded[0] else min(others, key=lambda place: abs(recorded[place] - depth))
        for depth in layers
    )


def live_workload(
    text: Dense, budgets: tuple[float, ...], recorded: Sequence[float], weights: str = ""
) -> Workload:
    """A workload that is filled while the model decodes: one context for each budget, with its own cache.

    Policies are told of the layers at the depths `recorded`, for which they were made; `weights` is the
    SHA-256 of those of the model.
    """
    steps = text.steps

    def layer(place: int) -> Layer:
        keys, values, queries = text.keys[place], text.values[place], text.prompt_queries[place]
        kv_heads, _, size = keys.shape
        room = np.zeros((kv_heads, steps, size), np.float16)
        return Layer(
            queries=np.zeros((steps, *queries.shape[1:]), np.float32),
            keys=np.concatenate([keys, room], axis=1),
            values=np.concatenate([values, room], axis=1),
            prompt_queries=queries,
        )

    return Workload(
        stage="effect",
        contexts=tuple(tuple(map(layer, range(len(text.layers)))) for _ in budgets),
        prefill=text.prefill,
        steps=tuple(range(steps)),
        budgets=budgets,
        told_layers=likened(text.depths, recorded),
        told_count=len(recorded),
        weights_sha256=weights,
        numbers=text.layers,
    )


class Effect(Dialogue):
    """One candidate in one context of a model, at all budgets."""

    def __init__(self, model: Any, text: Dense, workload: Workload, oracle: bool) -> None:
        self.model, self.text, self.workload, self.oracle = model, text, workload, oracle
        self.shares: list[list[float]] = []  # [B][L]
        self.states: dict[tuple[int, int | None], Kept] = {}  # layer, budget
        self.decisions: list[Decision] = []  # of the last turns, budget by budget
        self.log_probs: list[torch.Tensor] = []  # of each step [B, V]
        self.read_bytes = np.zeros(len(workload.budgets))
        self.asked: SimpleQueue[tuple[int, int] | BaseException | None] = SimpleQueue()
        self.decided: SimpleQueue[list[Decision] | None] = SimpleQueue()
        super().__init__(iter([self._run()]))

    def value(self) -> dict[str, object]:
        """Figures of each budget and step [B][S], and the traffic of each budget."""
        import torch

        found = torch.stack(self.log_probs, 1)  # [B, S, V]
        exact = self.text.log_probs
        following = torch.tensor(self.text.tokens[self.text.prefill + 1 :])
        places = following[None, :, None].expand(len(found), -1, 1)
        dense_read = sum(
            dense_bytes(*layer.keys[:, : self.workload.length(step)].shape)
            for layer in self.workload.contexts[0]
            for step in range(self.text.steps)
        )
        likely, exactly = found.argmax(-1), exact.argmax(-1)
        return {
            "budgets": list(self.workload.budgets),
            "kl": (exact.exp() * (exact - found)).sum(-1).clamp(min=0).tolist(),
            "nll": (-found.gather(2, places)[..., 0]).tolist(),
            "dense_nll": (-exact.gather(1, following[:, None])[:, 0]).tolist(),
            "same_first": (likely == exactly).double().tolist(),
            "right": (likely == following).double().tolist(),  # the text's own next token
            "dense_right": (exactly == following).double().tolist(),
            "traffic": (self.read_bytes / dense_read).tolist(),
            "answer": self.text.answer,
        }

    def _heed(self, arrays: Mapping[str, np.ndarray]) -> None:
        match self.phase:
            case Build() as build:
                self.shares = layer_shares(arrays.get("shares"), self.workload)
                for (_, layer), kept in zip(build.pairs, build.states(arrays), strict=True):
                    self.states[layer, None] = kept
            case Play() as play:
                for step, kept in zip(play.steps, play.states(arrays), strict=False):
                    self.states[step.case.layer, step.case.budget] = kept
                self.decisions = list(play.decisions(arrays))

    def _run(self) -> Iterator[Phase]:
        """The phases of the one process, led by the model, which waits for a selection in its thread."""
        yield Build(self.workload, [(0, layer) for layer in range(self.workload.layers)])
        thread = threading.Thread(target=self._decode, daemon=True)
        thread.start()
        try:
            while (asked := self.asked.get()) is not None:
                if isinstance(asked, BaseException):
                    raise asked
                yield self._play(*asked)
                self.decided.put(self.decisions)
        finally:
            self.decided.put(None)
            thread.join()

    def _play(self, step: int, layer: int) -> Play:
        layers, budgets = self.workload.layers, len(self.workload.budgets)
        first = (step * layers + layer) * budgets
        cases = [Case(first + budget, budget, layer, budget, step) for budget in range(budgets)]
        kept = [self.states.get((layer, budget), self.states[layer, None]) for budget in range(budgets)]
        turns = [Step(case) for case in cases]
        return Play(self.workload, turns, kept, self.shares, step + 1 < self.text.steps, self.oracle)

    def _decode(self) -> None:
        try:
            for log_probs in decode(self.model, self.text, len(self.workload.budgets), self._attend):
                self.log_probs.append(log_probs)
        except Abandoned:
            return
        except BaseException as error:  # raised again where the next question is waited for
            self.asked.put(error)
        else:
            self.asked.put(None)

    def _attend(
        self, layer: int, queries: "torch.Tensor", keys: "torch.Tensor", values: "torch.Tensor"
    ) -> "torch.Tensor":
        """The outputs [B, H, D] of one layer, once the policies have selected what it reads."""
        import torch

        step = len(self.log_probs)
        length = self.workload.length(step)
        for budget, context in enumerate(self.workload.contexts):
            context[layer].queries[step] = queries[budget].numpy()
            context[layer].keys[:, length - 1] = keys[budget].numpy()
            context[layer].values[:, length - 1] = values[budget].numpy()
        self.asked.put((step, layer))
        decisions = self.decided.get()
        if decisions is None:
            raise Abandoned
        outputs = [
            self._output(budget, context[layer], step, decision)
            for budget, (context, decision) in enumerate(zip(self.workload.contexts, decisions, strict=True))
        ]
        return torch.from_numpy(np.stack(outputs))

    def _output(self, budget: int, layer: Layer, step: int, decision: Decision) -> "NDArray[np.float32]":
        """What a decision makes of a layer [H, D]; its traffic is added to that of its budget."""
        length = self.workload.length(step)
        keys, values = (part[:, :length].astype(np.float32) for part in (layer.keys, layer.values))
        scores = dense_scores(layer.queries[step : step + 1], keys)[0]  # [H, N]
        rows = np.repeat(np.arange(len(scores)), decision.counts)
        weights = np.zeros_like(scores)
        chosen = np.zeros(scores.shape, bool)
        chosen[rows, decision.indices] = True
        if np.count_nonzero(chosen) < len(decision.indices):
            raise CandidateError(FailureKind.INVALID_OUTPUT, "A head selected the same token twice.")
        weights[rows, decision.indices] = attention_weights(
            scores[rows, decision.indices], decision.counts, decision.probabilities
        )
        kv_heads, _, size = keys.shape
        union = np.count_nonzero(chosen.reshape(kv_heads, -1, length).any(1))
        available = dense_bytes(kv_heads, length, size)
        self.read_bytes[budget] += min(available, union * dense_bytes(1, 1, size) + decision.beyond_bytes)
        outputs: NDArray[np.float32] = weighted_values(weights[None], values)[0]
        return outputs


def open_judge(
    *, model: str, depths: str, prefill: str, steps: str, seed: str = "0", texts: str = "", budgets: str = ""
) -> "Judge":
    """The judge of policies inside `model`, over contexts of `prefill` tokens and `steps` decode steps.

    `depths` (0 to 1, with commas) are those of the layers that the policies were made for. `texts` are a
    user's files, one a line; without any, the contexts are the shipped texts of each split. The stage "tasks"
    has those of `evaluators.tasks`, drawn from `seed`: of each kind in turn.
    """
    return Judge(
        model,
        _numbers(depths),
        int(prefill),
        int(steps),
        int(seed),
        tuple(map(Path, texts.splitlines())),
        _numbers(budgets) if budgets else BUDGETS,
    )


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


@dataclass(eq=False)
class Judge:
    """Leads candidates through decode steps of a real model."""

    name: str
    depths: tuple[float, ...]
    prefill: int
    steps: int
    seed: int
    texts: tuple[Path, ...]
    budgets: tuple[float, ...]

    def examine(self, stage: str, source: str, sample: int = 0) -> Effect:
        """Begins the examination of a candidate in context `sample` of the split `stage`, or of the tasks."""
        text = self._context(stage, sample)
        workload = live_workload(text, self.budgets, self.depths, self._weights)
        return Effect(self._model[0], text, workload, source in oracles())

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        return load_model(self.name)

    @cached_property
    def _weights(self) -> str:
        return weights_sha256(weights_path(self.name))

    @lru_cache(CONTEXTS)  # noqa: B019 - a worker has one judge for its whole life
    def _context(self, stage: str, number: int) -> Dense:
        model, tokenizer = self._model
        if stage == TASKS:
            kind = list(KINDS)[number % len(KINDS)]
            posed = pose(kind, tokenizer, self.prefill, (self.seed, number))
            return dense(model, posed.tokens, posed.prefill, posed.answer)
        texts = user_texts(self.texts) or [text for text in shipped_texts() if stage in text.splits]
        length = self.prefill + self.steps + 1
        passages = [passage for text in texts for passage in passages_of(text, tokenizer, length)]
        if number >= len(passages):
            raise KvolveError(
                f"The texts give {len(passages)} contexts of {length:,} tokens, and more were asked for. "
                "Give more texts, or ask for fewer or shorter contexts."
            )
        return dense(model, passages[number].tokens, self.prefill)
