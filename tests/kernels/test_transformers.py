"""`transformers` looks for an optional package called `kernels`, finds ours, and must leave it alone."""

import importlib.util
from pathlib import Path

import torch


def test_transformers_does_not_take_our_package_for_its_optional_one() -> None:
    from transformers.utils import is_kernels_available

    assert importlib.util.find_spec("kernels.sparse_decode")  # ours is the one that it found
    assert not is_kernels_available()


def test_llama_is_saved_loaded_and_run_beside_our_package(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    prompt = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        assert torch.equal(loaded(prompt).logits, model(prompt).logits)
        assert loaded.generate(prompt, max_new_tokens=4, min_new_tokens=4, do_sample=False).shape == (1, 7)
