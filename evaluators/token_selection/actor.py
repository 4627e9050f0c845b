"""The half of `token_selection` that runs inside the sandbox: it plays candidates and writes down their
decisions.
"""

import builtins
import copy
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.token_selection.language import LANGUAGE
from evaluators.token_selection.metering import LEDGER, Cache, Index, OracleCache, state_bytes
from evaluators.token_selection.state import pack, restore
from evaluators.token_selection.workloads import STAGES, Case, Workload, draw_budgets, open_workload

if TYPE_CHECKING:
    from torch import Tensor

    from evaluators.token_selection.workloads import Layer

DRAWS = 32  # per half of the test of inclusion probabilities
SPLIT_STEP = 1  # the probe's second process takes over after this many steps


def open_actor(stages: tuple[str, ...], **recordings: str) -> "Actor":
    """The actor for `stages`; `recordings` gives the recording of each stage."""
    torch.set_num_threads(1)
    return Actor({stage: open_workload(stage, Path(recordings[stage])) for stage in stages})


class Decisions:
    """What a candidate decided, flat and in the order of the workload's cases."""

    def __init__(self) -> None:
        self.counts: list[Tensor] = []  # [H] tokens per head
        self.indices: list[Tensor] = []
        self.probabilities: list[Tensor] = []
        self.beyond_bytes: list[int] = []
        self.index_bytes: list[int] = []

    def add(self, indices: "Tensor", probability: "Tensor", cache: Cache) -> None:
        """Checks the form of one selection and books it: indices [H, M], -1 padded; probability [H, M]."""
        shape = (cache.heads, indices.shape[-1] if isinstance(indices, torch.Tensor) and indices.ndim else 0)
        for name, given in (("indices", indices), ("probability", probability)):
            if not isinstance(given, torch.Tensor) or tuple(given.shape) != shape:
                got = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
                raise CandidateError(
                    FailureKind.INTERFACE,
                    f"select has to return (indices [{cache.heads}, M], probability [{cache.heads}, M]); "
                    f"{name} was {got}.",
                )
        if indices.is_floating_point() or (
            indices.numel() and (int(indices.min()) < -1 or int(indices.max()) >= cache.length)
        ):
            raise CandidateError(
                FailureKind.INVALID_OUTPUT,
                f"indices have to be integers from -1 (padding) to {cache.length - 1} (the newest token).",
            )
        chosen = indices >= 0
        selected = torch.zeros(cache.heads, cache.length, dtype=torch.bool)
        selected.scatter_(1, indices.clamp_min(0).long(), chosen) if bool(
            chosen.all()
        ) else selected.index_put_((chosen.nonzero()[:, 0], indices[chosen].long()), torch.tensor(True))
        self.counts.append(chosen.sum(1))
        self.indices.append(indices[chosen].to(torch.int32))
        self.probabilities.append(probability[chosen].to(torch.float32))
        self.beyond_bytes.append(LEDGER.beyond(selected.view(cache.kv_heads, -1, cache.length).any(1)))
        self.index_bytes.append(LEDGER.index_bytes())

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """The decisions as plain arrays, each name with `prefix`."""
        return {
            f"{prefix}counts": torch.stack(self.counts).to(torch.int32).numpy(),
            f"{prefix}indices": torch.cat(self.indices).numpy(),
            f"{prefix}probabilities": torch.cat(self.probabilities).numpy(),
            f"{prefix}beyond_bytes": np.array(self.beyond_bytes, dtype=np.int64),
            f"{prefix}index_bytes": np.array(self.index_bytes, dtype=np.int64),
        }


class Player:
    """Plays one policy on the layers of one workload."""

    def __init__(self, policy_class: Any, oracle: bool, workload: Workload) -> None:
        self.policy_class = policy_class
        self.cache_class = OracleCache if oracle else Cache
        self.workload = workload
        self.shares = _layer_shares(policy_class, workload)

    def prefilled(self, layer: "Layer") -> Any:
        """A policy object that has seen a layer's keys up to the first step that is asked for, but for its
        own."""
        policy = self.policy_class()
        if hasattr(policy, "prefill"):
            policy.prefill(torch.from_numpy(layer.keys[:, : self.workload.prefill]).clone())
        self._append(policy, layer, self.workload.prefill, self.workload.length(0) - 1)
        return policy

    def _append(self, policy: Any, layer: "Layer", first: int, last: int) -> None:
        """Gives the policy the tokens first .. last - 1, one by one; each step pays for its own token."""
        kv_heads, _, size = layer.keys.shape
        for token in range(first, last):
            LEDGER.start(kv_heads, token + 1, size)
            if hasattr(policy, "append"):
                policy.append(torch.from_numpy(layer.keys[:, token : token + 1]).clone())

    def step(self, policy: Any, layer: "Layer", case: Case, draw: int = 0) -> "tuple[Tensor, Tensor, Cache]":
        """One decode step: the new tokens are appended, then the policy selects."""
        length = self.workload.length(case.step)
        seen = self.workload.length(case.step - 1) if case.step else length - 1
        keys = torch.from_numpy(layer.keys[:, :length])
        values = torch.from_numpy(layer.values[:, :length])
        cache = self.cache_class(keys, values, layer.queries.shape[1], case.layer, self.workload.layers)
        self._append(policy, layer, seen, length)
        LEDGER.state_bytes = state_bytes(vars(policy))
        generator = torch.Generator().manual_seed(case.number * 1_000_003 + draw)
        budget = min(1.0, self.workload.budgets[case.budget] * self.shares[case.budget][case.layer])
        selection = policy.select(
            torch.from_numpy(layer.queries[case.step]).clone(), cache, budget, generator
        )
        if not isinstance(selection, tuple) or len(selection) != 2:
            raise CandidateError(
                FailureKind.INTERFACE, "select has to return the pair (indices, probability)."
            )
        return selection[0], selection[1], cache


class Actor:
    """Runs candidates on the workloads of a group of stages."""

    rounds: Mapping[str, int] = dict.fromkeys(STAGES, 1) | {"probe": 2}

    def __init__(self, workloads: Mapping[str, Workload]) -> None:
        self.workloads = workloads

    def act(self, source: str, stage: str, carried: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
        """Plays the candidate on all cases of `stage`; the probe's second round goes on from carried
        state.
        """
        workload = self.workloads[stage]
        namespace = _load(source)
        player = Player(namespace["Policy"], bool(namespace.get("ORACLE", False)), workload)
        with torch.no_grad():
            if carried is not None:
                return _resumed(player, carried)
            return _played(player, probing=stage == "probe", testing=stage in ("probe", "validation"))


def _played(player: Player, probing: bool, testing: bool) -> dict[str, np.ndarray]:
    decisions = Decisions()
    states: dict[str, np.ndarray] = {}
    workload = player.workload
    for context, layers in enumerate(workload.contexts):
        for number, layer in enumerate(layers):
            prefilled = player.prefilled(layer)
            for case in workload.cases(context, number):
                if case.step == 0:
                    policy = copy.deepcopy(prefilled)
                if probing and case.step == SPLIT_STEP:
                    states |= pack(vars(policy), f"state.{case.number}.")
                decisions.add(*player.step(policy, layer, case))
    arrays = decisions.arrays("")
    if testing and bool((arrays["probabilities"] < 1).any()):
        for budget in draw_budgets(workload):
            arrays |= _drawn(player, budget).arrays(f"drawn{budget}.")
    return arrays | states


def _resumed(player: Player, carried: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Plays on from the declared state alone: what a policy hid elsewhere is missing here."""
    decisions = Decisions()
    workload = player.workload
    for context, layers in enumerate(workload.contexts):
        for number, layer in enumerate(layers):
            for case in workload.cases(context, number):
                if case.step == SPLIT_STEP:
                    policy = restore(player.policy_class, carried, f"state.{case.number}.")
                if case.step >= SPLIT_STEP:
                    decisions.add(*player.step(policy, layer, case))
    return decisions.arrays("")


def _drawn(player: Player, budget: int) -> Decisions:
    """The first step of the last layer many times with other random numbers, to test inclusion
    probabilities."""
    decisions = Decisions()
    workload = player.workload
    layer = workload.contexts[0][-1]
    case = next(c for c in workload.cases(0, workload.layers - 1) if c.budget == budget)
    prefilled = player.prefilled(layer)
    for draw in range(1, 2 * DRAWS + 1):
        decisions.add(*player.step(copy.deepcopy(prefilled), layer, case, draw))
    return decisions


def _layer_shares(policy_class: Any, workload: Workload) -> list[list[float]]:
    """Per budget, each layer's multiple of it; mean 1, none above 100% of the layer's dense traffic."""
    policy = policy_class()
    layers = workload.layers
    if not hasattr(policy, "layer_shares"):
        return [[1.0] * layers for _ in workload.budgets]
    given = [float(share) for share in policy.layer_shares(layers)]
    if len(given) != layers or min(given) <= 0 or not np.isfinite(given).all():
        raise CandidateError(
            FailureKind.INTERFACE,
            f"layer_shares({layers}) has to return {layers} positive numbers; it gave {given}.",
        )
    return [_capped(given, 1 / budget) for budget in workload.budgets]


def _capped(shares: list[float], cap: float) -> list[float]:
    """Scales shares to mean 1 with none above `cap` (>= 1); what the cap cuts off goes to the others."""
    capped: set[int] = set()
    while True:
        free = [number for number in range(len(shares)) if number not in capped]
        if not free:
            return [min(1.0, cap)] * len(shares)
        scale = (len(shares) - cap * len(capped)) / sum(shares[number] for number in free)
        over = {number for number in free if shares[number] * scale > cap}
        if not over:
            return [cap if number in capped else share * scale for number, share in enumerate(shares)]
        capped |= over


def _load(source: str) -> dict[str, Any]:
    """Executes a candidate's source in a namespace that holds the policy language and nothing else."""
    allowed: dict[str, Any] = {name: getattr(builtins, name) for name in LANGUAGE.builtins}
    allowed |= {"__build_class__": builtins.__build_class__, "__import__": _import}
    namespace: dict[str, Any] = {"__name__": "candidate", "__builtins__": allowed, "Index": Index}
    exec(compile(source, "<candidate>", "exec"), namespace)  # inside the sandbox, after the screen
    if not hasattr(namespace.get("Policy"), "select"):
        raise CandidateError(
            FailureKind.INTERFACE, "The program has to define `class Policy` with a method `select`."
        )
    return namespace


def _import(name: str, *_: object, **__: object) -> Any:
    if name not in LANGUAGE.modules:
        raise ImportError(f"Only {', '.join(sorted(LANGUAGE.modules))} can be imported, not {name}.")
    return importlib.import_module(name)
