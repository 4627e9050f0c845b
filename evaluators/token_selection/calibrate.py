"""Makes artefacts: `python -m evaluators.token_selection.calibrate NAME [--model M --text FILE ...]`.

`hash_attention`: maps of queries and keys to 32 signs, trained to tell each query's heaviest tokens from the
others. `retrieval_heads`: how much each KV head loses with a window only (DuoAttention), and how much it
attends to an earlier copy of a token and to what came after it (RazorAttention). Of the shipped texts only
those of the search split are looked at.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.corpus import passages_of, shipped_texts, user_texts
from evaluators.models import (
    DEFAULT_MODEL,
    full_layers,
    load_model,
    text_config,
    weights_path,
    weights_sha256,
)
from evaluators.record_model import observe
from evaluators.token_selection.artefacts import WEIGHTS, folder_of
from kvolve import KvolveError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Observed = tuple[Tensor, Tensor, Tensor]

TOKENS = 2048  # of a context
BITS = 32
HEAVIEST = 64  # tokens of a query that are to be found
SINKS, WINDOW = 4, 16  # which every policy reads anyway
ROUNDS, QUERIES, RATE = 400, 64, 0.01  # steps of Adam, queries in each, and its rate
NEWEST = 256  # tokens of a streaming head
REPEATS = 4
MISSED = 20.0  # how much more a token counts that is to be found


def hash_attention(
    contexts: "list[Observed]", random: "torch.Generator", rounds: int = ROUNDS
) -> "dict[str, Tensor]":
    """Maps to BITS signs, for each KV head: int8 [G, D, BITS] and a shift [G, 1, BITS] for queries and keys.

    Trained as in arXiv:2412.14468, section 4: the signs are smoothed, their agreement is a logit, and the
    loss is the cross-entropy of being one of a query's heaviest tokens. One linear map each in place of the
    published three layers: these would cost more to read than they save in contexts of this length.
    """
    import torch

    kv_heads, _, size = contexts[0][1].shape
    maps = [torch.randn(kv_heads, size, BITS, generator=random) / size**0.5 for _ in range(2)]
    centre = torch.cat([keys for _, keys, _ in contexts], 1).mean(1, keepdim=True)
    shifts = [torch.zeros(kv_heads, 1, BITS), -centre @ maps[1]]
    gain = torch.tensor(0.3)
    bias = torch.tensor(-4.0)
    learnt = [part.requires_grad_() for part in (*maps, *shifts, gain, bias)]
    optimiser = torch.optim.Adam(learnt, lr=RATE)
    for turn in range(rounds):
        queries, keys, _ = contexts[turn % len(contexts)]
        steps = torch.randint(queries.shape[1] // 4, queries.shape[1], (QUERIES,), generator=random)
        asked = queries.view(kv_heads, -1, *queries.shape[1:])[:, :, steps]  # [G, group, Q, D]
        at = torch.arange(keys.shape[1])
        visible = (at >= SINKS) & (at <= steps[:, None] - WINDOW)  # [Q, N]
        scores = (asked @ keys[:, None].transpose(2, 3)).masked_fill(~visible, -torch.inf)
        heavy = torch.zeros_like(scores).scatter(3, scores.topk(HEAVIEST, -1).indices, 1.0)
        signs = [
            (vectors @ weights + shift)
            for vectors, weights, shift in (
                (asked.flatten(1, 2), maps[0], shifts[0]),
                (keys, maps[1], shifts[1]),
            )
        ]
        of_queries, of_keys = (torch.tanh(part / part.detach().std(1, keepdim=True)) for part in signs)
        logits = (of_queries @ of_keys.transpose(1, 2)).view_as(scores) * gain + bias
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, heavy, pos_weight=torch.tensor(MISSED), reduction="none"
        )
        loss = loss[visible.expand_as(loss)].mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.param_groups[0]["lr"] = RATE * (1 - turn / rounds)
    found: dict[str, Tensor] = {}
    for name, weights, shift in zip(("query", "key"), maps, shifts, strict=True):
        step = weights.detach().abs().amax(1, keepdim=True) / 127
        found[f"{name}_map"] = (weights.detach() / step).round().to(torch.int8)
        found[f"{name}_shift"] = (shift.detach() / step).half()
    return found


def retrieval_heads(contexts: "list[Observed]", repeated: "Observed") -> "dict[str, Tensor]":
    """Of each KV head [G]: what it loses with a window only, and how much it attends to copies.

    `loss`: mean squared relative error of its output if it reads SINKS first and NEWEST last tokens only; it
    is what a gate of zero costs in DuoAttention, arXiv:2410.10819. `copies`: the attention to earlier copies
    of the query's token (echo) and to the tokens after them (induction), in random tokens that come REPEATS
    times, RazorAttention, arXiv:2407.15891. Of the query heads of a group the first of its kind counts.
    """
    import torch

    losses = []
    for queries, keys, values in contexts:
        steps = torch.arange(queries.shape[1] // 2, queries.shape[1], 16)
        scores, visible, at = _scores(queries, keys, steps)
        near = visible & ((at < SINKS) | (at > steps[:, None] - NEWEST))
        full, streaming = (
            scores.masked_fill(~seen, -torch.inf).softmax(-1) @ values[:, None] for seen in (visible, near)
        )
        error = (full - streaming).square().sum(-1) / full.square().sum(-1)  # [G, group, steps]
        losses.append(error.mean(-1).amax(1))
    queries, keys, _ = repeated
    period = queries.shape[1] // REPEATS
    steps = torch.arange(queries.shape[1] - period, queries.shape[1])
    scores, visible, at = _scores(queries, keys, steps)
    weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    behind = steps[:, None] - at
    echo = weights * ((behind > 0) & (behind % period == 0))
    induction = weights * ((behind > 1) & ((behind + 1) % period == 0))
    copies = (echo + induction).sum(-1).mean(-1).amax(1)
    return {"loss": torch.stack(losses).mean(0).half(), "copies": copies.half()}


def _scores(queries: "Tensor", keys: "Tensor", steps: "Tensor") -> "tuple[Tensor, Tensor, Tensor]":
    """Scores [G, group, S, N] of the queries at `steps`, which tokens they see [S, N], and all places [N]."""
    import torch

    kv_heads, tokens, size = keys.shape
    asked = queries.reshape(kv_heads, -1, tokens, size)[:, :, steps]
    at = torch.arange(tokens)
    return asked @ keys[:, None].transpose(2, 3) / size**0.5, at <= steps[:, None], at


ARTEFACTS = ("hash_attention", "retrieval_heads")


def make(name: str, model_name: str, texts: Sequence[Path]) -> Path:
    """Makes an artefact of all layers of a model that attend to all earlier tokens."""
    import torch
    from safetensors.torch import save_file

    model, tokenizer = load_model(model_name)
    random = torch.Generator().manual_seed(0)
    layers = full_layers(model)
    read = user_texts(texts) or [text for text in shipped_texts() if "search" in text.splits]
    passages = [passage for text in read for passage in passages_of(text, tokenizer, TOKENS)]
    contexts = [observe(model, passage.tokens, layers) for passage in passages]
    drawn = torch.randint(len(tokenizer), (TOKENS // REPEATS,), generator=random).tolist()
    repeated = observe(model, drawn * REPEATS, layers)
    tensors: dict[str, Tensor] = {}
    for layer in layers:
        # copies: tensors of inference mode cannot be learnt from
        observed = [context.pop(layer) for context in contexts]
        seen = [(queries.clone(), keys.clone(), values.clone()) for queries, keys, values in observed]
        if name == "hash_attention":
            parts = hash_attention(seen, random)
        else:
            parts = retrieval_heads(seen, repeated[layer])
        tensors |= {f"{layer}.{part}": tensor.contiguous() for part, tensor in parts.items()}
        print(f"layer {layer} of {text_config(model).num_hidden_layers}", flush=True)
    weights = weights_sha256(weights_path(model_name))
    path = folder_of(weights) / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {WEIGHTS: weights})
    path.chmod(0o644)  # safetensors makes files that nobody else can read
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=ARTEFACTS)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--text", type=Path, action="append", default=[])
    given = parser.parse_args()
    try:
        print(make(given.name, given.model, given.text))
    except KvolveError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
