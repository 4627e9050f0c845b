"""What kvpress scores: `kvpress_scores.py IN OUT KEPT`. Importing it patches attention, hence a process.

Both are safetensors files. IN has for each layer the attention [H, T, T] of T queries, and keys [G, T, D];
OUT the score [G, T] that each press gives to each key. Where it depends on how many are kept, KEPT are.
"""

import sys
from types import SimpleNamespace

from kvpress import ObservedAttentionPress, SnapKVPress, StreamingLLMPress
from safetensors.torch import load_file, save_file


def main(source: str, target: str, kept: str) -> None:
    given, scores = load_file(source), {}
    for layer in sorted({name.split(".")[1] for name in given}):
        attention, keys = given[f"attention.{layer}"][None], given[f"keys.{layer}"][None]
        tokens = keys.shape[2]
        config = SimpleNamespace(num_attention_heads=attention.shape[1], num_key_value_heads=keys.shape[1])
        module = SimpleNamespace(config=config, head_dim=keys.shape[3])
        ratio = 1 - (int(kept) + 0.5) / tokens
        presses = {
            "observed": ObservedAttentionPress(),
            "last": SnapKVPress(window_size=1, kernel_size=1),
            "streaming": StreamingLLMPress(ratio),
            "window": StreamingLLMPress(ratio, n_sink=0),
        }
        hidden = attention.new_zeros(1, tokens, 1)  # only its length is looked at
        for name, press in presses.items():
            scores[f"{name}.{layer}"] = press.score(module, hidden, keys, keys, attention, {})[0].contiguous()
    save_file(scores, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
