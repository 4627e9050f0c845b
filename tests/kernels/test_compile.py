"""What Triton's compiler makes of the kernels for GPUs that need not be there."""

import pytest
import torch

from kernels.compile import Resources, compile_for
from kernels.sparse_decode import (
    BLOCK_M,
    BLOCK_S,
    NUM_WARPS,
    SPLIT,
    attend_split,
    merge_splits,
    sparse_decode,
)

STRIDES = (
    "query_stride",
    "key_group_stride",
    "key_stride",
    "value_group_stride",
    "value_stride",
    "index_stride",
    "probability_stride",
)


def built_attend(dtype: str, size: int, capability: int, block_m: int = BLOCK_M) -> Resources:
    inputs = dict.fromkeys(("query", "keys", "values"), f"*{dtype}:16")
    lists = {"indices": "*i32:16", "probability": "*fp32:16"}
    outputs = dict.fromkeys(("partial", "partial_lse"), "*fp32:16")
    scalars = {"scale": "fp32", "length": "i32", "entries": "i32"} | dict.fromkeys(STRIDES, "i32:16")
    constexprs = {"GROUP": 4, "D": size, "BLOCK_D": size, "SPLIT": SPLIT, "BLOCK_M": block_m}
    return compile_for(attend_split, inputs | lists | outputs | scalars, constexprs, capability, NUM_WARPS)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("dtype", "size"), [("fp16", 64), ("bf16", 128), ("fp32", 128)])
def test_attend_split_builds_without_spills(dtype: str, size: int, capability: int) -> None:
    resources = built_attend(dtype, size, capability)
    assert resources.spill_bytes == 0
    # 128 lets four programs of four warps share the 65,536 registers of a multiprocessor
    assert resources.registers <= 128


@pytest.mark.parametrize("capability", [80, 90])
def test_merge_splits_builds_without_spills(capability: int) -> None:
    pointers = {"partial": "*fp32:16", "partial_lse": "*fp32:16", "output": "*fp16:16", "lse": "*fp32:16"}
    constexprs = {"D": 128, "BLOCK_D": 128, "BLOCK_S": BLOCK_S}
    resources = compile_for(merge_splits, pointers | {"splits": "i32"}, constexprs, capability, NUM_WARPS)
    assert resources.spill_bytes == 0


def test_spills_are_seen() -> None:
    resources = built_attend("fp32", 128, 90, block_m=128)  # 128 values of each tile per thread
    assert resources.spill_bytes > 0
    assert resources.registers == 255


def test_shared_memory_is_seen() -> None:
    assert built_attend("fp16", 64, 90).shared_bytes > 0


def test_function_that_triton_does_not_compile_is_refused() -> None:
    with pytest.raises(TypeError, match="given <function"):
        compile_for(sparse_decode, {}, {}, 90)


def test_tensors_on_the_cpu_are_refused_by_a_compiled_kernel() -> None:
    query, cache = torch.ones(2, 16), torch.ones(1, 4, 16)
    with pytest.raises(ValueError, match="TRITON_INTERPRET=1"):
        sparse_decode(query, cache, cache, torch.zeros(2, 1, dtype=torch.int32), torch.ones(2, 1))
