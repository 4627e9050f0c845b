"""Decode steps of a real causal language model, whose attention somebody else computes.

A text is run twice: once densely, in one forward pass, which gives the keys and values of all layers and what
the model makes of each step; then token by token, where every attention layer asks for its output. Both see
the same tokens, so that the two distributions of the next token can be compared step by step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.models import (
    attention_of,
    full_layers,
    require_plain_attention,
    scaled,
    watched_attention,
)
from evaluators.recording import prompt_positions

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    # place of the layer among `Dense.layers`, queries [C, H, D] in the scale of `q.k / sqrt(D)`, keys and
    # values [C, G, D] of the step's own token; gives outputs [C, H, D]
    Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Dense:
    """What a model makes of a text of N + S + 1 tokens, the last S steps of which are decoded."""

    tokens: tuple[int, ...]
    prefill: int  # N
    layers: tuple[int, ...]  # those that attend to all that was before: there a policy decides
    depths: tuple[float, ...]  # of these layers, as a share of the model
    keys: "tuple[NDArray[np.float16], ...]"  # of each of these layers [G, N, D], after RoPE
    values: "tuple[NDArray[np.float16], ...]"
    prompt_queries: "tuple[NDArray[np.float16], ...]"  # [P, H, D], at `prompt_positions(N)`
    # of the other layers, by number: keys and values [G, N, D]
    windows: "Mapping[int, tuple[torch.Tensor, torch.Tensor]]"
    log_probs: "torch.Tensor"  # [S, V] float32: of the token that follows token N + s
    answer: int = 0  # how many of the last tokens answer a question

    @property
    def steps(self) -> int:
        return len(self.log_probs)


def dense(model: Any, tokens: Sequence[int], prefill: int, answer: int = 0) -> Dense:
    """Runs a text of which the first `prefill` tokens are the context; the last token is only predicted.

    The last `answer` tokens are the answer to a question.
    """
    import torch
    from transformers import DynamicCache

    steps = len(tokens) - prefill - 1
    places = list(prompt_positions(prefill))
    queries: dict[int, torch.Tensor] = {}

    def see(
        layer: int, query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor", options: dict[str, Any]
    ) -> None:
        queries[layer] = scaled(query, options)[0, :, places].transpose(0, 1)

    cache = DynamicCache()  # without a configuration, so that no layer forgets what lies behind a window
    with torch.no_grad(), watched_attention(model, see):
        logits = model(torch.tensor([tokens[:-1]]), past_key_values=cache, logits_to_keep=steps).logits[0]
    cached = [(layer.keys[0, :, :prefill], layer.values[0, :, :prefill]) for layer in cache.layers]
    layers = full_layers(model)
    return Dense(
        tokens=tuple(tokens),
        prefill=prefill,
        layers=layers,
        depths=tuple(layer / len(cached) for layer in layers),
        keys=tuple(cached[layer][0].half().numpy() for layer in layers),
        values=tuple(cached[layer][1].half().numpy() for layer in layers),
        windows={layer: cached[layer] for layer in range(len(cached)) if layer not in layers},
        prompt_queries=tuple(queries[layer].half().numpy() for layer in layers),
        log_probs=logits.float().log_softmax(-1),
        answer=answer,
    )


def decode(model: Any, text: Dense, copies: int, attend: "Attend") -> "Iterator[torch.Tensor]":
    """Decodes a text for C copies at once: log-probabilities [C, V] of what follows each step.

    Every copy is fed the text's own tokens. Nothing is cached but what layers with a sliding window see; they
    stay as they are, and `attend` has the others.

    Raises KvolveError for a model with other attention than these two.
    """
    import torch

    windows = {
        layer: tuple(part.expand(copies, *part.shape) for part in cached)
        for layer, cached in text.windows.items()
    }
    places = {layer: place for place, layer in enumerate(text.layers)}

    def ask(
        module: Any,
        query: "torch.Tensor",
        key: "torch.Tensor",
        value: "torch.Tensor",
        mask: Any,
        **options: Any,
    ) -> tuple["torch.Tensor", None]:
        layer, size = module.layer_idx, query.shape[-1]
        window = options.pop("sliding_window", None)
        require_plain_attention(layer, key, value, options)
        queries = scaled(query, options)[:, :, 0]
        if layer in places:
            return attend(places[layer], queries, key[:, :, 0], value[:, :, 0])[:, None], None
        keys, values = (
            torch.cat([cached, new], 2)[:, :, -window:]
            for cached, new in zip(windows[layer], (key, value), strict=True)
        )
        windows[layer] = keys, values
        scores = queries.view(*keys.shape[:2], -1, size) @ keys.transpose(2, 3) / size**0.5
        return (scores.softmax(-1) @ values).reshape(copies, 1, -1, size), None

    with attention_of(model, ask):
        for step in range(text.steps):
            position = text.prefill + step
            tokens = torch.full((copies, 1), text.tokens[position])
            at = torch.full((copies, 1), position)
            with torch.no_grad():
                logits = model(tokens, position_ids=at, use_cache=False).logits[:, -1]
            yield logits.float().log_softmax(-1)
