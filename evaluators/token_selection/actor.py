"""The half of `token_selection` inside the sandbox: a candidate takes the turns that the judge gives it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.program import load
from evaluators.token_selection.cache import Cache, Index, Link, Shape
from evaluators.token_selection.language import LANGUAGE
from evaluators.token_selection.state import pack, restore
from evaluators.token_selection.workloads import Goal

if TYPE_CHECKING:
    from torch import Tensor

    from evaluators.problem import Language
    from evaluators.token_selection.cache import Ask

Arrays = Mapping[str, np.ndarray]


def open_actor() -> "Actor":
    torch.set_num_threads(1)
    return Actor()


class Actor:
    """Runs candidates. It has no data: keys, queries and earlier state come with the turns of a process."""

    def __init__(self, language: "Language" = LANGUAGE) -> None:
        self.language = language

    def act(self, source: str, ask: "Ask") -> dict[str, np.ndarray]:
        """Takes the turns of one process, phase after phase; their states and selections are sent at once."""
        policy_class, link = _load(source, self.language), Link(ask)
        turns = ask("begin", {})
        with torch.no_grad():
            while turns:
                play = _built if "layers" in turns else _selected
                turns = ask("done", play(policy_class, turns, link))
        return {}


def _built(policy_class: Any, turns: Arrays, link: Link) -> dict[str, np.ndarray]:
    """The states of policies that have seen the keys of one layer of one context, up to the first step."""
    sent = _layer_shares(policy_class, int(turns["layers"]))
    for turn in range(int(turns["count"])):
        _begin(link, turn, 0, turns)
        policy = policy_class()
        if hasattr(policy, "calibrate"):
            policy.calibrate(link.learnt())
        if hasattr(policy, "prefill"):
            policy.prefill(_tensor(link.read("prefill")))
        if hasattr(policy, "observe"):
            queries = _tensor(link.read("prompt_queries")).transpose(0, 1).contiguous()
            positions = torch.from_numpy(turns["positions"].copy())
            policy.observe(queries, positions, _tensor(link.read("prefill")))
        if hasattr(policy, "append"):
            _append(policy, link.read("tokens"))
        sent |= pack(vars(policy), f"{turn}.")
    return sent


def _selected(policy_class: Any, turns: Arrays, link: Link) -> dict[str, np.ndarray]:
    """Decode steps: in each turn the new tokens are appended to a policy, which then selects."""
    kept: dict[str, np.ndarray] = {}
    selections: list[tuple[Tensor, Tensor]] = []
    for turn, numbers in enumerate(turns["shapes"].tolist()):
        _begin(link, turn, int(turns["spent"][turn]), turns)
        policy = restore(policy_class, turns, f"{turn}.", link)
        if hasattr(policy, "append"):
            _append(policy, turns["tokens"][turn])
        cache = Cache(link, Shape(*numbers))
        generator = torch.Generator().manual_seed(int(turns["seeds"][turn]))
        query = torch.from_numpy(turns["queries"][turn].copy())
        selection = policy.select(query, cache, _asked(turns, turn), generator)
        if not isinstance(selection, tuple) or len(selection) != 2:
            raise CandidateError(
                FailureKind.INTERFACE, "select has to return the pair (indices, probability)."
            )
        selections.append(_checked(selection[0], selection[1], cache))
        if turns["keep"]:
            kept |= pack(vars(policy), f"{turn}.")
    return _flat(selections) | kept


def _asked(turns: Arrays, turn: int) -> float | Goal:
    """The budget of a turn, or what it is to guarantee."""
    if "goals" not in turns:
        return float(turns["budgets"][turn])
    epsilon, delta = map(float, turns["goals"][turn])
    return Goal(epsilon, delta, bytes(turns["quantity"]).decode())


def _begin(link: Link, turn: int, spent_bytes: int, turns: Arrays) -> None:
    """Begins a turn with ambient random numbers that tell nothing of the turn before it: how many were drawn
    there. They are others when a probe is repeated.
    """
    link.begin(turn, spent_bytes)
    torch.default_generator.manual_seed(int(turns["noise"]))


def _checked(indices: "Tensor", probability: "Tensor", cache: Cache) -> tuple["Tensor", "Tensor"]:
    """Checks the form of a selection; its content is for the judge to check."""
    shape = (cache.heads, indices.shape[-1] if isinstance(indices, torch.Tensor) and indices.ndim else 0)
    for name, given in (("indices", indices), ("probability", probability)):
        if not isinstance(given, torch.Tensor) or tuple(given.shape) != shape:
            got = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
            raise CandidateError(
                FailureKind.INTERFACE,
                f"select has to return (indices [{cache.heads}, M], probability [{cache.heads}, M]); "
                f"{name} was {got}.",
            )
    if indices.is_floating_point():
        raise CandidateError(
            FailureKind.INVALID_OUTPUT,
            f"indices have to be integers from -1 (padding) to {cache.length - 1} (the newest token).",
        )
    # a number that is too large stays so in 32 bits
    return indices.clamp(-2, cache.length).int(), probability.float()


def _flat(selections: "list[tuple[Tensor, Tensor]]") -> dict[str, np.ndarray]:
    """Selections turn after turn and head after head, without the padding."""
    chosen = [indices != -1 for indices, _ in selections]
    return {
        "counts": torch.stack([mask.sum(1) for mask in chosen]).int().numpy(),
        "indices": torch.cat(
            [indices[mask] for (indices, _), mask in zip(selections, chosen, strict=True)]
        ).numpy(),
        "probabilities": torch.cat(
            [probability[mask] for (_, probability), mask in zip(selections, chosen, strict=True)]
        ).numpy(),
    }


def _append(policy: Any, tokens: np.ndarray) -> None:
    """Gives a policy new tokens [G, a, D] one by one."""
    keys = _tensor(tokens)
    for token in range(keys.shape[1]):
        policy.append(keys[:, token : token + 1].clone())


def _tensor(keys: np.ndarray) -> "Tensor":
    return torch.from_numpy(keys.astype(np.float32))


def _layer_shares(policy_class: Any, layers: int) -> dict[str, np.ndarray]:
    policy = policy_class()
    if not hasattr(policy, "layer_shares"):
        return {}
    given = [float(share) for share in policy.layer_shares(layers)]
    return {"shares": np.array(given, np.float64)}


def _load(source: str, language: "Language") -> Any:
    """The candidate's Policy."""
    policy_class = load(source, language, {"Index": Index}).get("Policy")
    if not hasattr(policy_class, "select"):
        raise CandidateError(
            FailureKind.INTERFACE, "The program has to define `class Policy` with a method `select`."
        )
    return policy_class
