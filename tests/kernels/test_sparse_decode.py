"""What holds for the sparse decode kernel, on a GPU or under Triton's interpreter.

Triton decides when it is first imported whether it interprets. So without a GPU this file is skipped, and
`test_interpreter.py` runs it in a process of its own.
"""

import os

import pytest
import torch
from torch import Tensor

from kernels import reference
from kernels.sparse_decode import sparse_decode

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not (INTERPRETED or torch.cuda.is_available()):
    pytest.skip(
        "no GPU; test_interpreter.py runs this file under Triton's interpreter", allow_module_level=True
    )

DEVICE = "cpu" if INTERPRETED else "cuda"

# Rounding of the output to its dtype; inputs are compared as the kernel sees them.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}

SHAPES = [  # H, G, N, D, M
    pytest.param((4, 4, 64, 16, 32), id="one_head_per_group_one_block"),
    pytest.param((9, 3, 200, 64, 77), id="groups_of_three_ragged_block"),
    pytest.param((8, 1, 500, 32, 300), id="one_group_three_splits"),
    pytest.param((2, 1, 2500, 80, 2177), id="head_size_80_eighteen_splits"),
    pytest.param((2, 2, 40, 128, 1), id="one_entry"),
]

Shape = tuple[int, int, int, int, int]
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def draw(shape: Shape, dtype: torch.dtype = torch.float32) -> Inputs:
    """Random inputs of sparse_decode: ragged rows with padding at their end, probabilities in [0.05, 1)."""
    heads, groups, length, size, entries = shape
    generator = torch.Generator().manual_seed(heads * 1000 + entries)
    query = 2 * torch.randn(heads, size, generator=generator)
    keys = torch.randn(groups, length, size, generator=generator)
    values = torch.randn(groups, length, size, generator=generator)
    indices = torch.stack([torch.randperm(length, generator=generator)[:entries] for _ in range(heads)]).int()
    kept = torch.randint(1, entries + 1, (heads, 1), generator=generator)
    kept[0] = entries
    indices[torch.arange(entries) >= kept] = -1
    probability = 0.05 + 0.95 * torch.rand(heads, entries, generator=generator)
    floats = (tensor.to(DEVICE, dtype) for tensor in (query, keys, values))
    return *floats, indices.to(DEVICE), probability.to(DEVICE)


def assert_agrees(inputs: Inputs) -> None:
    output, lse = sparse_decode(*inputs)
    expected, expected_lse = reference.sparse_decode(*inputs)
    assert output.dtype == inputs[0].dtype
    assert lse.dtype == torch.float32
    tolerance = TOLERANCE[output.dtype]
    torch.testing.assert_close(output.double(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_float64(shape: Shape, dtype: torch.dtype) -> None:
    assert_agrees(draw(shape, dtype))


def test_all_tokens_read_for_certain_is_dense_attention() -> None:
    query, keys, values, _, _ = draw((6, 2, 150, 64, 150))
    indices = torch.arange(150, dtype=torch.int32, device=DEVICE).expand(6, -1)
    output, lse = sparse_decode(query, keys, values, indices, torch.ones(6, 150, device=DEVICE))
    expected, expected_lse = reference.dense_decode(query, keys, values)
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-5, atol=1e-5)


def test_padding_may_stand_anywhere_and_its_probability_is_ignored() -> None:
    query, keys, values, indices, probability = draw((4, 2, 300, 32, 200))
    indices[:, ::3] = -1
    indices[2, :140] = -1  # the whole first split
    probability[indices < 0] = 0.0
    assert_agrees((query, keys, values, indices, probability))


def test_row_without_a_token_gives_zeros() -> None:
    query, keys, values, indices, probability = draw((4, 2, 300, 32, 200))
    indices[1] = -1
    output, lse = sparse_decode(query, keys, values, indices, probability)
    assert torch.equal(output[1], torch.zeros_like(output[1]))
    assert lse[1] == -torch.inf
    assert_agrees((query, keys, values, indices, probability))


def test_list_of_no_entries_gives_zeros() -> None:
    query, keys, values, indices, probability = draw((4, 2, 50, 32, 8))
    output, lse = sparse_decode(query, keys, values, indices[:, :0], probability[:, :0])
    assert not output.any()
    assert (lse == -torch.inf).all()


def test_halving_a_probability_is_selecting_the_token_twice() -> None:
    query, keys, values, indices, probability = draw((4, 2, 100, 32, 40))
    halved = sparse_decode(query, keys, values, indices, probability / 2)
    twice = torch.cat([indices, indices], dim=1), torch.cat([probability, probability], dim=1)
    doubled = sparse_decode(query, keys, values, *twice)
    torch.testing.assert_close(halved, doubled, rtol=1e-5, atol=1e-5)


def test_cache_may_be_a_strided_view() -> None:
    query, keys, values, indices, probability = draw((6, 2, 120, 64, 50), torch.float16)
    token_first = keys.transpose(0, 1).contiguous().transpose(0, 1)  # stored [N, G, D]
    inside_a_longer_cache = torch.cat([values, torch.full_like(values, torch.nan)], dim=1)[:, :120]
    assert_agrees((query, token_first, inside_a_longer_cache, indices, probability))


def test_logits_beyond_the_range_of_exp_stay_finite() -> None:
    query, keys, values, indices, probability = draw((4, 2, 300, 64, 200))
    assert_agrees((query * 100, keys, values, indices, probability))


@pytest.mark.parametrize("broken", ["index", "probability"])
def test_unusable_entry_makes_only_its_row_nan(broken: str) -> None:
    query, keys, values, indices, probability = draw((4, 2, 300, 32, 200))
    if broken == "index":
        indices[0, 17] = 300
    else:
        probability[0, 17] = 0.0
    output, lse = sparse_decode(query, keys, values, indices, probability)
    assert output[0].isnan().all()
    assert lse[0].isnan()
    assert output[1:].isfinite().all()


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        pytest.param(0, lambda query: query[:3], id="heads_not_a_multiple_of_groups"),
        pytest.param(1, lambda keys: keys[:, :, :16], id="head_sizes_differ"),
        pytest.param(2, lambda values: values.half(), id="dtypes_differ"),
        pytest.param(3, lambda indices: indices.long(), id="indices_of_64_bits"),
        pytest.param(4, lambda probability: probability[:, 1:], id="a_probability_missing"),
        pytest.param(2, lambda values: values.mT.contiguous().mT, id="channels_not_adjacent"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(argument: int, change: object) -> None:
    inputs = list(draw((4, 2, 50, 32, 8)))
    inputs[argument] = change(inputs[argument])  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"^expected .+; given "):
        sparse_decode(*inputs)
