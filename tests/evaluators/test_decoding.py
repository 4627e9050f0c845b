"""Decode steps whose attention is computed outside equal those of the model itself."""

from pathlib import Path

import pytest
import torch

from evaluators.decoding import Dense, decode, dense
from evaluators.models import load_model
from kvolve import KvolveError
from tests.evaluators.test_record_model import save_tiny_model, text

PREFILL, STEPS, COPIES = 40, 6, 2


def save_windowed_model(folder: Path) -> Path:
    """A Gemma 3 with random weights, of whose four layers the third alone sees more than 16 tokens."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    save_tiny_model(folder)  # for its tokenizer
    kinds = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 13}
    torch.manual_seed(0)
    config = Gemma3TextConfig(**shape, **heads, layer_types=kinds, sliding_window=16)
    Gemma3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return load_model(str(save_tiny_model(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return load_model(str(save_windowed_model(tmp_path_factory.mktemp("windowed"))))


def dense_text(model: object, tokenizer: object) -> Dense:
    tokens = tokenizer(text("a", PREFILL + STEPS + 1).content).input_ids
    return dense(model, tokens, PREFILL)


class Outside:
    """Dense attention over a cache of its own, and what it was asked."""

    def __init__(self, dense: Dense) -> None:
        self.keys = [torch.tensor(keys).float().expand(COPIES, -1, -1, -1) for keys in dense.keys]
        self.values = [torch.tensor(values).float().expand(COPIES, -1, -1, -1) for values in dense.values]
        self.asked: list[int] = []

    def __call__(
        self, layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        self.asked.append(layer)
        self.keys[layer] = torch.cat([self.keys[layer], keys[:, :, None]], 2)
        self.values[layer] = torch.cat([self.values[layer], values[:, :, None]], 2)
        size = queries.shape[-1]
        grouped = queries.view(COPIES, keys.shape[1], -1, size)
        weights = (grouped @ self.keys[layer].transpose(2, 3) / size**0.5).softmax(-1)
        return (weights @ self.values[layer]).reshape(COPIES, -1, size)


@pytest.mark.parametrize(("name", "layers"), [("tiny", 3), ("windowed", 1)])
def test_dense_attention_from_outside_gives_what_the_model_gives(name, layers, request):
    model, tokenizer = request.getfixturevalue(name)
    found = dense_text(model, tokenizer)
    outside = Outside(found)
    steps = list(decode(model, found, COPIES, outside))
    assert len(steps) == STEPS == found.steps
    for step, log_probs in enumerate(steps):
        for copy in log_probs:  # the cache outside is of fp16
            torch.testing.assert_close(copy, found.log_probs[step], rtol=0, atol=2e-3)
    assert outside.asked == list(range(layers)) * STEPS


def test_the_windows_of_other_layers_move_on(windowed):
    """With windows that stood still, or none, the steps would differ from the model's own."""
    model, tokenizer = windowed
    found = dense_text(model, tokenizer)
    empty = {layer: (keys[:, :0], values[:, :0]) for layer, (keys, values) in found.windows.items()}
    without = Dense(**(vars(found) | {"windows": empty}))
    last = list(decode(model, without, COPIES, Outside(found)))[-1]
    assert (last[0] - found.log_probs[-1]).abs().max() > 1e-2


def test_only_layers_that_see_everything_are_for_policies(windowed):
    found = dense_text(*windowed)
    assert found.layers == (2,)
    assert found.depths == (0.5,)
    assert sorted(found.windows) == [0, 1, 3]


def test_decoding_ends_with_the_models_own_attention(tiny):
    model, tokenizer = tiny
    before = model.config._attn_implementation
    found = dense_text(model, tokenizer)
    steps = decode(model, found, COPIES, Outside(found))
    next(steps)
    steps.close()
    assert model.config._attn_implementation == before


def test_a_model_with_capped_scores_is_refused(tmp_path):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    save_tiny_model(tmp_path)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 13}
    kinds = ["full_attention", "full_attention"]
    Gemma2ForCausalLM(Gemma2Config(**shape, **heads, layer_types=kinds)).save_pretrained(tmp_path)
    model, tokenizer = load_model(str(tmp_path))
    found = dense_text(model, tokenizer)
    with pytest.raises(KvolveError, match="capped scores"):
        next(decode(model, found, COPIES, Outside(found)))
