"""Sparse gather decode with inclusion probabilities, in Triton: one query token, one list per query head.

Two passes, as in split-K decode: `attend_split` lets each program attend over SPLIT entries of one head's
list, and `merge_splits` joins the splits of a head by their log-sum-exp. A row of keys and values is read
once per query head; heads of a group that select the same token meet in the L2 cache only.
"""

# Kernels carry Triton's types, and in capitals what is known when they are compiled.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: N803, PLR0917

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

SPLIT = 128  # entries per program: 32 heads with 1,024 entries make 256 programs, two per multiprocessor
BLOCK_M = 32  # entries per step: with D = 128 and four warps, a K or V tile is 32 fp32 registers per thread
BLOCK_S = 16  # splits merged per step
NUM_WARPS = 4
BUILD = {"num_warps": NUM_WARPS, "enable_fp_fusion": True}  # Triton 3.10 fuses only if asked to

INPUT_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@triton.jit
def attend_split(
    query,  # [H, D]
    keys,  # [G, N, D]
    values,  # [G, N, D]
    indices,  # [H, M] int32, negative = padding
    probability,  # [H, M] float32
    partial,  # [H, S, D] float32, out: normalised within the split
    partial_lse,  # [H, S] float32, out: to base 2, -inf where the split selects nothing
    scale,  # log2(e) / sqrt(D)
    length,  # N
    entries,  # M
    query_stride,
    key_group_stride,
    key_stride,
    value_group_stride,
    value_stride,
    index_stride,
    probability_stride,
    GROUP: tl.constexpr,  # query heads per KV head
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Attends over one split of one head's list; grid (H, S)."""
    head = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    group = head // GROUP
    channels = tl.arange(0, BLOCK_D)
    in_head = channels < D
    q = tl.load(query + head * query_stride + channels, mask=in_head, other=0.0).to(tl.float32) * scale

    peak = float("-inf")
    total = 0.0
    accumulator = tl.zeros([BLOCK_D], dtype=tl.float32)
    for start in range(0, SPLIT, BLOCK_M):
        entry = split * SPLIT + start + tl.arange(0, BLOCK_M)
        in_list = entry < entries
        index = tl.load(indices + head * index_stride + entry, mask=in_list, other=-1).to(tl.int64)
        p = tl.load(probability + head * probability_stride + entry, mask=in_list, other=1.0)
        selected = index >= 0
        readable = (selected & (index < length))[:, None] & in_head[None, :]
        k = tl.load(
            keys + group * key_group_stride + index[:, None] * key_stride + channels[None, :],
            mask=readable,
            other=0.0,
        ).to(tl.float32)
        v = tl.load(
            values + group * value_group_stride + index[:, None] * value_stride + channels[None, :],
            mask=readable,
            other=0.0,
        ).to(tl.float32)
        logits = tl.sum(q[None, :] * k, axis=1) - tl.log2(p)
        # An index beyond the cache is the caller's mistake: show it in the output, read no foreign memory.
        logits = tl.where(index < length, logits, float("nan"))
        logits = tl.where(selected, logits, float("-inf"))

        new_peak = tl.maximum(peak, tl.max(logits, axis=0))
        base = tl.where(new_peak == float("-inf"), 0.0, new_peak)  # nothing selected yet: avoid -inf - -inf
        weights = tl.exp2(logits - base)
        decay = tl.exp2(peak - base)
        total = total * decay + tl.sum(weights, axis=0)
        accumulator = accumulator * decay + tl.sum(weights[:, None] * v, axis=0)
        peak = new_peak

    empty = total == 0.0
    slot = head * tl.num_programs(1) + split
    tl.store(partial + slot * D + channels, accumulator / tl.where(empty, 1.0, total), mask=in_head)
    tl.store(partial_lse + slot, tl.where(empty, float("-inf"), peak + tl.log2(total)))


@triton.jit
def merge_splits(
    partial,  # [H, S, D] float32
    partial_lse,  # [H, S] float32, base 2
    output,  # [H, D]
    lse,  # [H] float32, natural logarithm
    splits,  # S
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """Joins the splits of one head, each weighted by its share of the sum of exponentials; grid (H,)."""
    head = tl.program_id(0).to(tl.int64)
    channels = tl.arange(0, BLOCK_D)
    in_head = channels < D

    peak = float("-inf")
    total = 0.0
    accumulator = tl.zeros([BLOCK_D], dtype=tl.float32)
    for start in range(0, splits, BLOCK_S):
        split = start + tl.arange(0, BLOCK_S)
        slot = head * splits + split
        exists = split < splits
        part_lse = tl.load(partial_lse + slot, mask=exists, other=float("-inf"))
        part = tl.load(
            partial + slot[:, None] * D + channels[None, :],
            mask=exists[:, None] & in_head[None, :],
            other=0.0,
        )
        new_peak = tl.maximum(peak, tl.max(part_lse, axis=0))
        base = tl.where(new_peak == float("-inf"), 0.0, new_peak)
        weights = tl.exp2(part_lse - base)
        decay = tl.exp2(peak - base)
        total = total * decay + tl.sum(weights, axis=0)
        accumulator = accumulator * decay + tl.sum(weights[:, None] * part, axis=0)
        peak = new_peak

    empty = total == 0.0
    merged = accumulator / tl.where(empty, 1.0, total)
    tl.store(output + head * D + channels, merged.to(output.dtype.element_ty), mask=in_head)
    ln2 = 0.6931471805599453
    tl.store(lse + head, tl.where(empty, float("-inf"), (peak + tl.log2(total)) * ln2))


def sparse_decode(
    query: Tensor, keys: Tensor, values: Tensor, indices: Tensor, probability: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention of one decode step over selected tokens, each weighted by its inverse inclusion probability.

    The tensors lie on one GPU, or on the CPU if TRITON_INTERPRET=1 was set before triton was first imported.
    Sums are kept in fp32. A row that selects nothing gives zeros and -inf. What cannot be checked without
    waiting for the GPU shows in the row: an index of N or more, or a probability of 0, makes it NaN.

    Args:
        query: [H, D], fp16, bf16 or fp32.
        keys, values: [G, N, D] in the dtype of the query, any strides but 1 along D; H is a multiple of G.
        indices: [H, M] int32, below N and unique in a row; negative ones are padding, anywhere in the row.
        probability: [H, M] float32 in (0, 1]; ignored where the index is padding.

    Returns:
        Output [H, D] in the dtype of the query, and log-sum-exp [H] float32 of q.k_i / sqrt(D) - log p_i.

    Raises:
        ValueError: a shape, dtype, stride or device does not fit.
    """
    require_fitting(query, keys, values, indices, probability)
    heads, size = query.shape
    groups, length, _ = keys.shape
    entries = indices.shape[1]
    splits = max(1, triton.cdiv(entries, SPLIT))
    block_d = triton.next_power_of_2(size)
    partial = torch.empty((heads, splits, size), dtype=torch.float32, device=query.device)
    partial_lse = torch.empty((heads, splits), dtype=torch.float32, device=query.device)
    output = torch.empty((heads, size), dtype=query.dtype, device=query.device)
    lse = torch.empty(heads, dtype=torch.float32, device=query.device)
    # Triton launches on the current GPU, whatever the tensors say.
    with torch.cuda.device_of(query):  # type: ignore[no-untyped-call]
        attend_split[(heads, splits)](
            query,
            keys,
            values,
            indices,
            probability,
            partial,
            partial_lse,
            math.log2(math.e) / math.sqrt(size),
            length,
            entries,
            query.stride(0),
            *keys.stride()[:2],
            *values.stride()[:2],
            indices.stride(0),
            probability.stride(0),
            GROUP=heads // groups,
            D=size,
            BLOCK_D=block_d,
            SPLIT=SPLIT,
            BLOCK_M=BLOCK_M,
            **BUILD,
        )
        merge_splits[(heads,)](
            partial, partial_lse, output, lse, splits, D=size, BLOCK_D=block_d, BLOCK_S=BLOCK_S, **BUILD
        )
    return output, lse


def require_fitting(
    query: Tensor, keys: Tensor, values: Tensor, indices: Tensor, probability: Tensor
) -> None:
    """Raises ValueError, saying what is expected and what was given, unless `sparse_decode` can take it."""
    names = ("query", "keys", "values", "indices", "probability")
    tensors = dict(zip(names, (query, keys, values, indices, probability), strict=True))
    given = ", ".join(f"{name} {list(tensor.shape)} {tensor.dtype}" for name, tensor in tensors.items())
    if query.dim() != 2 or keys.dim() != 3 or keys.shape != values.shape or keys.shape[2] != query.shape[1]:
        raise ValueError(f"expected query [H, D], keys and values [G, N, D]; given {given}")
    if keys.shape[0] == 0 or query.shape[0] % keys.shape[0]:
        raise ValueError(f"expected query heads H in a multiple of KV heads G; given {given}")
    if indices.dim() != 2 or indices.shape[0] != query.shape[0] or probability.shape != indices.shape:
        raise ValueError(f"expected indices and probability [H, M]; given {given}")
    if query.dtype not in INPUT_DTYPES or keys.dtype != query.dtype or values.dtype != query.dtype:
        raise ValueError(f"expected query, keys and values in one dtype of fp16, bf16, fp32; given {given}")
    if indices.dtype != torch.int32 or probability.dtype != torch.float32:
        raise ValueError(f"expected int32 indices and float32 probability; given {given}")
    for name, tensor in tensors.items():
        if tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
            raise ValueError(
                f"expected {name} with stride 1 along its last dimension; given strides {tensor.stride()}"
            )
    if len({tensor.device for tensor in tensors.values()}) > 1:
        places = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
        raise ValueError(f"expected all tensors on one device; given {places}")
    if isinstance(attend_split, triton.JITFunction) and not query.is_cuda:
        raise ValueError(
            f"expected tensors on a GPU; given {query.device}. "
            "On the CPU, set TRITON_INTERPRET=1 before triton is first imported."
        )
