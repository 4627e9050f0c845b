"""The float64 references agree with torch's own attention, and with the definition of the estimator."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from kernels import reference


def test_dense_decode_is_scaled_dot_product_attention() -> None:
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(6, 16, generator=generator, dtype=torch.float64)
    keys = torch.randn(2, 40, 16, generator=generator, dtype=torch.float64)
    values = torch.randn(2, 40, 16, generator=generator, dtype=torch.float64)
    output, _ = reference.dense_decode(query, keys, values)
    expected = scaled_dot_product_attention(query[None, :, None], keys[None], values[None], enable_gqa=True)
    torch.testing.assert_close(output, expected[0, :, 0])


def test_sparse_decode_divides_each_exponential_by_its_probability() -> None:
    generator = torch.Generator().manual_seed(2)
    query = torch.randn(1, 4, generator=generator, dtype=torch.float64)
    keys = torch.randn(1, 10, 4, generator=generator, dtype=torch.float64)
    values = torch.randn(1, 10, 4, generator=generator, dtype=torch.float64)
    output, lse = reference.sparse_decode(
        query, keys, values, torch.tensor([[7, -1, 2]]), torch.tensor([[0.25, 0.0, 1.0]])
    )
    seven, two = ((keys[0, token] @ query[0] / 2).exp() for token in (7, 2))  # sqrt(D) = 2
    torch.testing.assert_close(output[0], (seven * 4 * values[0, 7] + two * values[0, 2]) / (seven * 4 + two))
    torch.testing.assert_close(lse[0].exp(), seven * 4 + two)


def test_row_that_selects_nothing_gives_zeros() -> None:
    cache = torch.ones(1, 3, 4)
    output, lse = reference.sparse_decode(
        torch.ones(1, 4), cache, cache, torch.tensor([[-1]]), torch.ones(1, 1)
    )
    assert not output.any()
    assert lse[0] == -torch.inf
