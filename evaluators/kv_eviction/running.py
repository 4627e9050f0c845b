"""What a language model makes of tokens that follow a compressed cache.

Several branches (a continuation, conversations) follow the same cache in one forward pass: no branch sees
another one. The cache of each layer is given, and nothing of it changes; layers with a sliding window have
theirs as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from evaluators.models import attention_of, require_plain_attention, scaled

if TYPE_CHECKING:
    from collections.abc import Callable

    # number of a layer, queries [H, T, D] in the scale of `q.k / sqrt(D)`, keys and values [G, T, D] of the
    # new tokens
    See = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], None]


@dataclass(frozen=True)
class LayerCache:
    """What one layer has of the tokens before. Heads with fewer tokens are padded, with a bias of -inf."""

    keys: torch.Tensor  # [G, K, D] float32
    values: torch.Tensor  # [G, K, D]
    bias: torch.Tensor  # [G, K], added to scores: 0, or the logarithm of how many tokens a slot stands for
    positions: torch.Tensor | None = None  # [K], of a layer with a sliding window


Caches = Mapping[int, LayerCache]


def log_probabilities(
    model: Any,
    branches: Sequence[Sequence[int]],
    begin: int,
    caches: Caches,
    *,
    rows: Sequence[int],
    see: "See | None" = None,
) -> torch.Tensor:
    """Log-probabilities [R, V] of what follows the tokens `rows` of all branches, one after the other.

    Every branch starts at position `begin`.
    """
    lengths = [len(branch) for branch in branches]
    number = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    positions = begin + torch.cat([torch.arange(length) for length in lengths])
    order = torch.arange(len(positions))
    seen = (number[:, None] == number) & (order[:, None] >= order)  # [T, T]
    among = torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)

    def attend(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: Any,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        layer, (heads, tokens) = module.layer_idx, query.shape[1:3]
        window = options.pop("sliding_window", None)
        require_plain_attention(layer, key, value, options)
        cache, query = caches[layer], scaled(query, options)
        if see is not None:
            see(layer, query[0], key[0], value[0])
        group = heads // key.shape[1]
        bias = cache.bias[:, None].expand(-1, tokens, -1)  # [G, T, K]
        new = among
        if cache.positions is not None and window:
            bias = bias.masked_fill(positions[:, None] - cache.positions >= window, -torch.inf)
            new = among.masked_fill(positions[:, None] - positions >= window, -torch.inf)
        added = torch.cat([bias, new.expand(len(bias), -1, -1)], 2)
        keys, values = torch.cat([cache.keys, key[0]], 1), torch.cat([cache.values, value[0]], 1)
        found = torch.nn.functional.scaled_dot_product_attention(
            query,
            keys.repeat_interleave(group, 0)[None],
            values.repeat_interleave(group, 0)[None],
            attn_mask=added.repeat_interleave(group, 0)[None],
        )
        return found.transpose(1, 2), None

    tokens = torch.tensor([[token for branch in branches for token in branch]])
    with torch.no_grad(), attention_of(model, attend):
        kept = torch.tensor(list(rows))
        found = model(tokens, position_ids=positions[None], use_cache=False, logits_to_keep=kept)
    logits: torch.Tensor = found.logits[0].float()
    return logits.log_softmax(-1)


def plain_cache(keys: torch.Tensor, values: torch.Tensor) -> LayerCache:
    """All tokens [G, N, D] as they are."""
    return LayerCache(keys.float(), values.float(), torch.zeros(keys.shape[:2]))
