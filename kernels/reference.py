"""Decode attention in plain torch and float64: slow, obviously right, what every kernel is compared with."""

import torch
from torch import Tensor


def dense_decode(query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of one decode step over all cached tokens.

    Args:
        query: [H, D], any float dtype.
        keys, values: [G, N, D]; H is a multiple of G, and query head h reads KV head h // (H // G).

    Returns:
        Output [H, D] and log-sum-exp of the scaled logits [H], both float64.
    """
    everything = torch.arange(keys.shape[1], device=keys.device).expand(query.shape[0], -1)
    certain = torch.ones(everything.shape, dtype=torch.float64, device=keys.device)
    return sparse_decode(query, keys, values, everything, certain)


def sparse_decode(
    query: Tensor, keys: Tensor, values: Tensor, indices: Tensor, probability: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention of one decode step over selected tokens, each weighted by its inverse inclusion probability.

    With s_i = q.k_i / sqrt(D) the output is sum_i exp(s_i)/p_i v_i / sum_i exp(s_i)/p_i over the selected i,
    which is a softmax over s_i - log p_i. A row that selects nothing gives zeros and a log-sum-exp of -inf.

    Args:
        query: [H, D], any float dtype.
        keys, values: [G, N, D]; H is a multiple of G, and query head h reads KV head h // (H // G).
        indices: [H, M], integers below N; negative ones are padding, anywhere in the row.
        probability: [H, M] in (0, 1]; ignored where the index is padding.

    Returns:
        Output [H, D] and log-sum-exp of s_i - log p_i [H], both float64.
    """
    heads, size = query.shape
    group = torch.arange(heads, device=keys.device) // (heads // keys.shape[0])
    selected = indices >= 0
    tokens = indices.long().clamp(min=0)
    rows = keys[group[:, None], tokens].double()  # [H, M, D]
    logits = torch.einsum("hd,hmd->hm", query.double(), rows) / size**0.5 - probability.double().log()
    logits = logits.masked_fill(~selected, -torch.inf)
    lse = logits.logsumexp(dim=1)
    # masked_fill: where nothing is selected, exp(-inf - -inf) is nan
    weights = (logits - lse[:, None]).exp().masked_fill(~selected, 0.0)
    return torch.einsum("hm,hmd->hd", weights, values[group[:, None], tokens].double()), lse
