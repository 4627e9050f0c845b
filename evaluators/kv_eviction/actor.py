"""The half of `kv_eviction` inside the sandbox: a policy compresses one cache after another."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.kv_eviction.language import LANGUAGE
from evaluators.kv_eviction.layer import BLOCK, Layer
from evaluators.program import load

Arrays = Mapping[str, np.ndarray]
Ask = Callable[[str, Arrays], Arrays]

SETTINGS = {
    "key_channels": 1.0,
    "key_density": 1.0,
    "value_density": 1.0,
    "rank": 0.0,
    "outliers": 0.0,
    "counts": 0.0,
    "pair": 0.0,
}
TIERS = "tiers"


def open_actor() -> "Actor":
    torch.set_num_threads(1)
    return Actor()


class Actor:
    """Runs candidates. It has no data: what it knows of a cache are answers of the judge."""

    def act(self, source: str, ask: Ask) -> dict[str, np.ndarray]:
        """Compresses cache after cache, each with a policy of its own, until the judge has no more."""
        policy_class: Any = load(source, LANGUAGE).get("Policy")
        if not hasattr(policy_class, "score"):
            raise CandidateError(
                FailureKind.INTERFACE, "The program has to define `class Policy` with a method `score`."
            )
        turn = ask("begin", {})
        known: dict[int, Layer] = {}
        while turn:
            torch.default_generator.manual_seed(int(turn["noise"]))
            if not turn["again"]:
                known = {}
            with torch.no_grad():
                turn = _compress(policy_class(), ask, turn, known)
        return {}


class _Own(Layer):
    """A layer whose tensors belong to one policy; what is expensive is computed once for all policies."""

    def __init__(self, shown: Layer) -> None:
        super().__init__(
            keys=shown.keys.clone(),
            values=shown.values.clone(),
            positions=shown.positions.clone(),
            queries=shown.queries.clone(),
            query_mean=shown.query_mean.clone(),
            query_covariance=shown.query_covariance.clone(),
            index=shown.index,
            layers=shown.layers,
            length=shown.length,
            learnt={name: part.clone() for name, part in shown.learnt.items()},
            state=None if shown.state is None else shown.state.clone(),
            counts=shown.counts.clone(),
        )
        self.shown = shown
        self.future = shown.future

    @property
    def attention(self) -> torch.Tensor:
        if self.known is None:
            self.known = self.shown.attention.clone()
        return self.known


def _compress(policy: Any, ask: Ask, turn: Arrays, known: dict[int, Layer]) -> Arrays:
    """One cache; returns the next turn. `known` are the layers that this process was shown before."""
    budget, count = float(turn["budget"]), int(turn["layers"])
    said: dict[str, np.ndarray] = {}
    layers, scores = [], []
    for number in range(count):
        asked = {"layer": np.array(number)}
        if number not in known:
            known[number] = _shown(ask("layer", asked), number, turn)
        layer = _Own(known[number])
        if hasattr(policy, "observe"):
            layer.state = _observed(policy, layer, ask("blocks", asked))
            said[f"state.{number}"] = layer.state.half().numpy()
        found = _tensor(policy.score(layer), "score").float()
        said[f"scores.{number}"] = found.contiguous().numpy()
        scores.append(found)
        layers.append(layer)
    if hasattr(policy, "allocate"):
        weights = policy.allocate([found.clone() for found in scores], budget)
        said["weights"] = torch.as_tensor(weights).double().contiguous().numpy()
    if hasattr(policy, "format"):
        for number, layer in enumerate(layers):
            said |= _format(policy.format(layer, budget), number)
    kept = ask("scored", said)
    written: dict[str, np.ndarray] = {}
    for number, layer in enumerate(layers):
        if hasattr(policy, "channels"):
            channels = _tensor(policy.channels(layer), "channels").float()
            written[f"channels.{number}"] = channels.contiguous().numpy()
        if hasattr(policy, "merge"):
            places = torch.from_numpy(kept[f"kept.{number}"].copy())
            written |= _merged(policy.merge(layer, places), number)
    return ask("stored", written)


def _shown(told: Arrays, number: int, turn: Arrays) -> Layer:
    """A layer before any block is observed."""

    def real(name: str) -> torch.Tensor:
        return torch.from_numpy(told[name].astype(np.float32))

    layer = Layer(
        keys=real("keys"),
        values=real("values"),
        positions=torch.from_numpy(told["positions"].copy()),
        queries=real("queries"),
        query_mean=real("query_mean"),
        query_covariance=real("query_covariance"),
        index=number,
        layers=int(turn["layers"]),
        length=int(turn["length"]),
        learnt={name.removeprefix("learnt."): real(name) for name in told if name.startswith("learnt.")},
        state=real("state") if "state" in told else None,
        counts=real("counts") if "counts" in told else None,
    )
    if "future" in told:
        layer.future = real("future")
    return layer


def _observed(policy: Any, layer: Layer, told: Arrays) -> torch.Tensor:
    """The state after a policy has seen all blocks, each with the tokens that were there."""
    blocks = [torch.from_numpy(told[name].astype(np.float32)) for name in ("received", "frequent")]
    state = layer.state
    everything, length = (layer.keys, layer.values, layer.positions), layer.length
    of_prompt = (
        len(blocks[0]) > 1
    )  # all of whose tokens are cached; while text is generated, one block is new
    for number, (received, frequent) in enumerate(zip(*blocks, strict=True)):
        end = min(everything[2].shape[1], (number + 1) * BLOCK) if of_prompt else everything[2].shape[1]
        layer.keys, layer.values, layer.positions = (part[:, :end] for part in everything)
        layer.received, layer.frequent = received[:, :end], frequent[:, :end]
        layer.length = end if of_prompt else length
        if state is not None and state.shape[1] < end:
            new = torch.zeros(state.shape[0], end - state.shape[1], state.shape[2])
            state = torch.cat([state, new], 1)
        layer.state = state
        state = _tensor(policy.observe(layer), "observe").float()
        if state.ndim != 3 or state.shape[:2] != layer.positions.shape:
            raise CandidateError(
                FailureKind.INTERFACE,
                f"observe has to return [G, n, S] with G, n = {list(layer.positions.shape)}; it returned "
                f"{list(state.shape)}.",
            )
    layer.keys, layer.values, layer.positions = everything
    layer.length = length
    assert state is not None
    layer.received = layer.frequent = None
    return state.half().float()


def _format(given: object, number: int) -> dict[str, np.ndarray]:
    """A format as numbers."""
    if not isinstance(given, dict) or not set(given) <= {*SETTINGS, TIERS}:
        known = ", ".join([TIERS, *SETTINGS])
        raise CandidateError(
            FailureKind.INTERFACE, f"format has to return a dictionary with keys of {known}."
        )
    tiers = np.array(
        [[float(part) for part in tier] for tier in given.get(TIERS, [(1.0, 16, 16)])], np.float64
    )
    settings = [float(given.get(name, usual)) for name, usual in SETTINGS.items()]
    return {f"tiers.{number}": tiers, f"format.{number}": np.array(settings)}


def _merged(given: object, number: int) -> dict[str, np.ndarray]:
    """What is written into the places of the kept tokens."""
    if not isinstance(given, tuple) or len(given) != 3:
        raise CandidateError(FailureKind.INTERFACE, "merge has to return (keys, values, counts or None).")
    names = [name for name, part in zip(("keys", "values", "counts"), given, strict=True) if part is not None]
    return {
        f"{name}.{number}": _tensor(part, "merge").float().contiguous().numpy()
        for name, part in zip(("keys", "values", "counts"), given, strict=True)
        if name in names
    }


def _tensor(given: object, method: str) -> torch.Tensor:
    if not isinstance(given, torch.Tensor):
        raise CandidateError(
            FailureKind.INTERFACE, f"{method} has to return a tensor; it returned {type(given).__name__}."
        )
    return given.detach()
