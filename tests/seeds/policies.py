"""Seeds of token_selection played alone, on recorded queries, keys and values of a real model."""

import types

import numpy as np
import torch

from evaluators.models import GGUF_SHA256
from evaluators.problem import get_problem
from evaluators.recording import prompt_positions
from evaluators.token_selection import standalone
from evaluators.token_selection.artefacts import learnt

PROBLEM = get_problem("token_selection")
SEEDS = {seed.name: seed for seed in PROBLEM.seeds()}


def module(name: str) -> types.ModuleType:
    """A seed executed alone, as if it had been copied out."""
    loaded = types.ModuleType(name)
    loaded.Index = standalone.Index
    exec(compile(SEEDS[name].source, name, "exec"), vars(loaded))
    return loaded


def a_cache(layer) -> tuple[torch.Tensor, torch.Tensor, standalone.Cache]:
    """Query [H, D], keys [G, N, D] and cache of the first decode step of a recorded layer."""
    recorded, tokens, _ = layer
    keys, values = (
        torch.from_numpy(part[:, :tokens].astype(np.float32)) for part in (recorded.keys, recorded.values)
    )
    return (
        torch.from_numpy(recorded.queries[0]),
        keys,
        standalone.Cache(keys, values, recorded.queries.shape[1]),
    )


def prompt_queries(layer) -> torch.Tensor:
    """Queries of the prompt [H, P, D]."""
    return torch.from_numpy(layer[0].prompt_queries.astype(np.float32)).transpose(0, 1).contiguous()


def begun(
    name: str, keys: torch.Tensor, queries: torch.Tensor, positions: torch.Tensor, layer: int
) -> tuple[types.ModuleType, object]:
    """A seed and its policy after a prompt: keys [G, N, D], queries [H, P, D] at `positions` [P]."""
    loaded = module(name)
    policy = loaded.Policy()
    if hasattr(policy, "calibrate"):
        parts = learnt(GGUF_SHA256, layer)
        policy.calibrate({part: torch.from_numpy(tensor.copy()) for part, tensor in parts.items()})
    if hasattr(policy, "prefill"):
        policy.prefill(keys)
    if hasattr(policy, "observe"):
        policy.observe(queries, positions, keys)
    return loaded, policy


def prepared(name: str, layer, tokens: int | None = None) -> tuple[types.ModuleType, object]:
    """A seed and its policy after the first `tokens` of a recorded prompt, by default all of it."""
    _, keys, _ = a_cache(layer)
    positions = torch.tensor(prompt_positions(layer[1]))
    return begun(name, keys[:, :tokens], prompt_queries(layer), positions, layer[2])


def exact_weights(query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """The attention of each query head [G, group, N]."""
    grouped = query.view(keys.shape[0], -1, keys.shape[-1])
    return (grouped @ keys.transpose(1, 2) / keys.shape[-1] ** 0.5).softmax(-1)
