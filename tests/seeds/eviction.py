"""Seeds of kv_eviction, and layers made of recorded queries, keys and values to show them.

A recording has the queries of four blocks of a prompt. A context here is these 256 tokens, whose queries are
all known; `prompt` is a whole prompt, of which the newest queries are.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from evaluators.kv_eviction.language import LANGUAGE
from evaluators.kv_eviction.layer import BLOCK, Layer
from evaluators.program import load
from evaluators.recording import SMALL_RECORDING, LayerTensors, Recording, prompt_positions

SEEDS = Path(__file__).parents[2] / "seeds" / "kv_eviction"
LAYERS = (0, 14, 27)


def source(name: str) -> str:
    return (SEEDS / f"{name}.py").read_text(encoding="utf-8")


def program(name: str) -> dict:
    """What a seed defines."""
    return load(source(name), LANGUAGE)


def policy(name: str):
    return program(name)["Policy"]()


@cache
def recorded() -> tuple[dict[int, LayerTensors], int]:
    recording = Recording.open(SMALL_RECORDING)
    context = recording.contexts("search")[0]
    return recording.load(context), context.prefill


def tensors(number: int, whole: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries [H, P, D] of the recorded blocks; keys and values [G, n, D] of their tokens, or of all."""
    layers, prefill = recorded()
    taken = range(prefill) if whole else prompt_positions(prefill)
    queries = torch.from_numpy(layers[number].prompt_queries.astype(np.float32)).transpose(0, 1)
    keys, values = (
        torch.from_numpy(part[:, list(taken)].astype(np.float32))
        for part in (layers[number].keys, layers[number].values)
    )
    return queries.contiguous(), keys, values


def shown(queries, keys, values, number: int = 0, **more) -> Layer:
    """A layer with the newest of `queries`; the moments are those of all of them, without a rotation."""
    centred = queries - queries.mean(1, keepdim=True)
    return Layer(
        keys=keys.clone(),
        values=values.clone(),
        positions=torch.arange(keys.shape[1]).expand(len(keys), -1).clone(),
        queries=queries[:, -BLOCK:].clone(),
        query_mean=queries.mean(1),
        query_covariance=centred.transpose(1, 2) @ centred / queries.shape[1],
        index=number,
        layers=30,
        length=keys.shape[1],
        **more,
    )


def prompt(number: int) -> Layer:
    """A layer of a whole prompt of 992 tokens. Nothing has been observed."""
    return shown(*tensors(number, whole=True), number)


def observed(name: str, number: int):
    """A policy that has observed the 256 tokens of a layer block by block, and the layer at the end."""
    observer, (queries, keys, values), state = policy(name), tensors(number), None
    for end in range(BLOCK, keys.shape[1] + 1, BLOCK):
        layer = shown(queries[:, :end], keys[:, :end], values[:, :end], number)
        if not hasattr(observer, "observe"):
            continue
        if state is not None:
            layer.state = torch.cat([state, torch.zeros(len(keys), BLOCK, state.shape[2])], 1)
        layer.received, layer.frequent = attended(layer)
        state = layer.state = observer.observe(layer).half().float()  # two bytes a number
    return observer, layer


def attended(layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
    """`received` and `frequent` [G, n] of the newest block."""
    at = torch.arange(layer.length - layer.queries.shape[1], layer.length)
    seen = (torch.arange(layer.length) <= at[:, None]).float()  # [W, n]
    often = (layer.attention > 1 / (at[:, None] + 1)) * seen
    shares = [part.sum(1) / seen.sum(0) for part in (layer.attention * seen, often)]
    return tuple(share.view(layer.kv_heads, -1, layer.length).mean(1) for share in shares)


def causal_attention(number: int) -> torch.Tensor:
    """The attention [H, T, T] of all 256 tokens."""
    queries, keys, _ = tensors(number)
    scores = queries @ keys.repeat_interleave(len(queries) // len(keys), 0).transpose(1, 2) / 8
    return scores.masked_fill(~torch.ones_like(scores[0]).tril().bool(), -torch.inf).softmax(-1)


def kept(scores: torch.Tensor, count: int) -> torch.Tensor:
    """The positions [G, count] of the highest scores, ascending."""
    return scores.topk(count).indices.sort().values
