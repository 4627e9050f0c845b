"""What kvpress makes of layers: `kvpress_eviction.py IN OUT KEPT`. It patches attention, hence a process.

Both are safetensors files. IN has for each layer `keys`, `values` [G, n, D], `queries` [H, W, D], their
`mean` [H, D] and `covariance` [H, D, D], all of a prompt, and `attention` [H, T, T] with `near_keys`
[G, T, D] of a part whose attention is known. OUT has the score of each press, the channels that ThinK leaves
[G, D], the tokens [G, T] that AdaKV leaves by SnapKV's scores, KEPT of a head on average, and the budgets of
PyramidKV by layer.
"""

import sys
from types import SimpleNamespace

import torch
from kvpress import (
    AdaKVPress,
    ExpectedAttentionPress,
    KeyDiffPress,
    KnormPress,
    LagKVPress,
    ObservedAttentionPress,
    PyramidKVPress,
    SnapKVPress,
    StreamingLLMPress,
    ThinKPress,
    TOVAPress,
)
from safetensors.torch import load_file, save_file


def module_of(keys: torch.Tensor, heads: int, layers: int = 1) -> SimpleNamespace:
    """What presses look at in an attention module."""
    config = SimpleNamespace(
        num_attention_heads=heads,
        num_key_value_heads=keys.shape[1],
        num_hidden_layers=layers,
        _attn_implementation="sdpa",
    )
    return SimpleNamespace(config=config, head_dim=keys.shape[3], layer_idx=0)


def of_prompt(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """By presses that look at no attention. Moments and queries are given in place of hidden states."""
    keys, values, queries = given["keys"], given["values"], given["queries"]
    module = module_of(keys, queries.shape[1])
    hidden = keys.new_zeros(1, keys.shape[2], 1)
    expected = ExpectedAttentionPress()
    expected.get_query_statistics = lambda module, hidden: (given["mean"], given["covariance"])
    presses = {
        "lagkv": LagKVPress(),
        "knorm": KnormPress(),
        "keydiff": KeyDiffPress(),
        "expected_attention": expected,
    }
    scores = {name: press.score(module, hidden, keys, values, None, {}) for name, press in presses.items()}
    think = ThinKPress(0.4)
    think.compute_window_queries = lambda *_: queries[:, :, -think.window_size :]
    named = {"hidden_states": hidden, "position_embeddings": None}
    thin, _ = think.compress(module, hidden, keys.clone(), values, None, named)
    return scores | {"think": (thin != 0).any(2).float()}


def of_attention(given: dict[str, torch.Tensor], kept: int) -> dict[str, torch.Tensor]:
    """By presses that look at attention, of which KEPT tokens of each head stay on average."""
    keys, attention = given["near_keys"], given["attention"]
    tokens = keys.shape[2]
    ratio = 1 - (kept + 0.5) / tokens
    module = module_of(keys, attention.shape[1])
    hidden = keys.new_zeros(1, tokens, 1)
    presses = {
        "snapkv": SnapKVPress(ratio),
        "tova": TOVAPress(ratio),
        "h2o": ObservedAttentionPress(ratio),
        "streaming_llm": StreamingLLMPress(ratio),
    }
    scores = {name: press.score(module, hidden, keys, keys, attention, {}) for name, press in presses.items()}
    AdaKVPress(SnapKVPress(ratio)).compress(module, hidden, keys, keys, attention, {})
    stays = torch.ones(1, keys.shape[1], tokens)
    stays[module.masked_key_indices] = 0
    return scores | {"adakv": stays}


def pyramid(layers: int, tokens: int, kept: int) -> torch.Tensor:
    press = PyramidKVPress(1 - kept / tokens)
    module = module_of(torch.zeros(1, 1, 1, 1), 1, layers)
    budgets = []
    for index in range(layers):
        module.layer_idx = index
        budgets.append(press.get_layer_budget(module, tokens))
    return torch.tensor(budgets)


def main(source: str, target: str, kept: str) -> None:
    given, made = load_file(source), {"pyramidkv": pyramid(30, 4096, 1280)}
    for layer in sorted({name.split(".")[1] for name in given}):
        parts = {name.split(".")[0]: part[None] for name, part in given.items() if name.endswith(f".{layer}")}
        for name, result in (of_prompt(parts) | of_attention(parts, int(kept))).items():
            made[f"{name}.{layer}"] = result[0].contiguous()
    save_file(made, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
