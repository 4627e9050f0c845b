"""How many of a query's heaviest tokens 32 bits find: `hash_recall.py`.

Learned maps, random hyperplanes (SimHash), signs of the principal components, and random projections of the
query against signs of the key, all of 32 bits a key, on the validation texts, layers 0, 9, 18 and 27. Recall
of the 64 heaviest tokens among the 64 best by the bits; sinks and window are left out.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from evaluators.corpus import passages_of, shipped_texts
from evaluators.models import DEFAULT_MODEL, GGUF_SHA256, load_model
from evaluators.record_model import FULL_LAYERS, observe
from evaluators.token_selection.artefacts import learnt
from evaluators.token_selection.calibrate import BITS, HEAVIEST, SINKS, TOKENS, WINDOW

Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # queries [G, Q, D], keys [G, N, D]: [G, Q, N]
Observed = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def signs(vectors: torch.Tensor) -> torch.Tensor:
    return torch.where(vectors > 0, 1.0, -1.0)


def recall(score: Score, context: Observed) -> float:
    queries, keys, _ = context
    steps = torch.arange(TOKENS // 2, TOKENS, 32)
    asked = queries.view(keys.shape[0], -1, *queries.shape[1:])[:, :, steps]  # [G, group, S, D]
    at = torch.arange(keys.shape[1])
    hidden = ~((at >= SINKS) & (at <= steps[:, None] - WINDOW))
    exact = (asked @ keys[:, None].transpose(2, 3)).masked_fill(hidden, -torch.inf)
    found = score(asked.flatten(1, 2), keys).view_as(exact).masked_fill(hidden, -torch.inf)
    heavy = torch.zeros_like(exact).scatter(3, exact.topk(HEAVIEST).indices, 1.0)
    return float(heavy.gather(3, found.topk(HEAVIEST).indices).mean())


def ways(layer: int, seen: list[Observed]) -> dict[str, Score]:
    """The four ways for one layer; the principal components are those of the search texts."""
    drawn = torch.randn(64, BITS, generator=torch.Generator().manual_seed(1))
    keys = torch.cat([keys for _, keys, _ in seen], 1)
    centre = keys.mean(1, keepdim=True)
    axes = torch.linalg.eigh((keys - centre).transpose(1, 2) @ (keys - centre)).eigenvectors[:, :, -BITS:]
    maps = {part: torch.from_numpy(tensor).float() for part, tensor in learnt(GGUF_SHA256, layer).items()}

    def own(keys: torch.Tensor) -> torch.Tensor:
        return keys - keys.mean(1, keepdim=True)

    return {
        "learned": lambda q, k: (
            signs(q @ maps["query_map"] + maps["query_shift"])
            @ signs(k @ maps["key_map"] + maps["key_shift"]).transpose(1, 2)
        ),
        "random hyperplanes": lambda q, k: signs(q @ drawn) @ signs(own(k) @ drawn).transpose(1, 2),
        "principal components": lambda q, k: signs(q @ axes) @ signs((k - centre) @ axes).transpose(1, 2),
        "asymmetric": lambda q, k: (q @ drawn) @ signs(own(k) @ drawn).transpose(1, 2),
    }


def main() -> None:
    model, tokenizer = load_model(DEFAULT_MODEL)
    observed = {
        split: [
            observe(model, passage.tokens, FULL_LAYERS)
            for text in shipped_texts()
            if split in text.splits
            for passage in passages_of(text, tokenizer, TOKENS)
        ]
        for split in ("search", "validation")
    }
    print(f"{'layer':24}" + "".join(f"{layer:>8}" for layer in FULL_LAYERS))
    table: dict[str, list[float]] = {}
    for layer in FULL_LAYERS:
        seen, unseen = ([context[layer] for context in observed[split]] for split in observed)
        for name, score in ways(layer, seen).items():
            table.setdefault(name, []).append(sum(recall(score, one) for one in unseen) / len(unseen))
    for name, row in table.items():
        print(f"{name:24}" + "".join(f"{one:8.3f}" for one in row))


if __name__ == "__main__":
    main()
