"""Making recordings: the texts that ship, a user's texts, and any causal LM."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.corpus import SPLITS, TEXTS, Text, shipped_texts, user_texts
from evaluators.models import load_model, observed_attention
from evaluators.record_model import full_recording_path, observe, record
from evaluators.recording import ContextInfo
from kvolve import KvolveError

WORDS = ["cat", "fell", "hills", "mat", "nobody", "quiet", "rain", "sat", "seven", "spoke", "the", "while"]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def save_tiny_model(folder: Path, **config: Any) -> Path:
    """A llama with random weights (3 layers, 4 query heads, 2 KV heads, head size 8) and a word tokenizer."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    vocabulary = {word: number for number, word in enumerate(["<unk>", *WORDS])}
    words = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>").save_pretrained(folder)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": len(vocabulary)}
    LlamaForCausalLM(LlamaConfig(**shape, **heads, **config)).save_pretrained(folder)
    return folder


def text(name: str, words: int) -> Text:
    """A text of so many words, another for each name."""
    chosen = np.random.default_rng(sum(name.encode())).choice(WORDS, words)
    return Text(name, "text", " ".join(chosen))


# --- the texts ---


def test_every_split_has_two_texts_of_each_of_four_kinds() -> None:
    kinds = ("code", "dialogue", "documentation", "prose")
    expected = sorted((split, kind) for split in SPLITS for kind in kinds for _ in range(2))
    assert sorted((shipped.splits[0], shipped.kind) for shipped in shipped_texts()) == expected


def test_every_shipped_text_states_title_author_origin_and_licence() -> None:
    rows = [
        line.strip("| ").split(" | ")
        for line in (TEXTS / "README.md").read_text().splitlines()
        if "|" in line
    ]
    stated = {row[0].strip("`"): row[1:] for row in rows[2:]}
    assert set(stated) == {shipped.name for shipped in shipped_texts()}
    assert all(len(row) == 4 and all(row) for row in stated.values())


def test_no_line_of_prose_code_or_dialogue_is_long_and_in_two_splits() -> None:
    lines: dict[str, set[str]] = {split: set() for split in SPLITS}
    for shipped in shipped_texts():
        lines[shipped.splits[0]] |= {line for line in shipped.content.splitlines() if len(line.strip()) > 50}
    for one, other in combinations(SPLITS, 2):
        assert not lines[one] & lines[other]


# --- recording any model ---


def test_another_model_is_recorded_with_its_own_shapes(tiny_model: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    texts = [text(name, 100) for name in "abc"]
    recording = record(
        str(tiny_model),
        texts,
        tmp_path / "out",
        prefill=40,
        steps=5,
        progress=lambda *done: seen.append(done),
    )
    manifest = recording.manifest
    shape = (manifest.num_layers, manifest.layers, manifest.heads, manifest.kv_heads, manifest.head_size)
    assert shape == (3, (0, 1, 2), 4, 2, 8)
    layer = recording.load(recording.contexts("holdout")[0])[2]
    assert layer.queries.shape == (5, 4, 8)
    assert layer.keys.shape == layer.values.shape == (2, 45, 8)
    assert seen[0] == (0, 6)
    assert seen[-1] == (6, 6)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_recorded_attention_gives_the_output_of_the_models_own_attention(tiny_model: Path) -> None:
    import torch

    model, tokenizer = load_model(str(tiny_model))
    tokens = tokenizer(text("a", 30).content).input_ids
    queries, keys, values = observe(model, tokens, (1,))[1]
    outputs = []
    attention = model.model.layers[1].self_attn
    handle = attention.o_proj.register_forward_pre_hook(lambda module, inputs: outputs.append(inputs[0][0]))
    model(torch.tensor([tokens]))
    handle.remove()
    scores = queries.double() @ keys.double().repeat_interleave(2, 0).transpose(1, 2) / 8**0.5
    causal = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    weights = scores.masked_fill(~causal, -torch.inf).softmax(-1)
    dense = (weights @ values.double().repeat_interleave(2, 0)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(dense.float(), outputs[0], rtol=1e-5, atol=1e-6)


def test_observing_ends_with_the_models_own_attention(tiny_model: Path) -> None:
    model, _ = load_model(str(tiny_model))
    before = model.config._attn_implementation
    with observed_attention(model, (0,)):
        assert model.config._attn_implementation != before
    assert model.config._attn_implementation == before


def test_the_same_recording_twice_has_the_same_hash(tiny_model: Path, tmp_path: Path) -> None:
    texts = [text(name, 50) for name in "abc"]
    one, two = (record(str(tiny_model), texts, tmp_path / out, prefill=40, steps=5) for out in ("one", "two"))
    assert one.hash == two.hash


def overlap(one: ContextInfo, other: ContextInfo) -> bool:
    same_text = one.text_sha256 == other.text_sha256
    return same_text and one.tokens[0] < other.tokens[1] and other.tokens[0] < one.tokens[1]


def test_three_texts_keep_the_splits_apart_by_text(tiny_model: Path, tmp_path: Path) -> None:
    texts = [text(name, 300) for name in "abcd"]
    recording = record(str(tiny_model), texts, tmp_path / "out", prefill=40, steps=5, layers=[1])
    by_split = {split: {context.text for context in recording.contexts(split)} for split in SPLITS}
    assert by_split == {"search": {"a", "d"}, "validation": {"b"}, "holdout": {"c"}}
    assert len(recording.manifest.contexts) == 16  # at most four of a file
    assert not any(overlap(*pair) for pair in combinations(recording.manifest.contexts, 2))
    assert recording.manifest.note == ""


def test_one_text_is_split_by_passages_that_do_not_overlap_and_the_manifest_warns(
    tiny_model: Path, tmp_path: Path
) -> None:
    recording = record(str(tiny_model), [text("a", 200)], tmp_path / "out", prefill=40, steps=5, layers=[1])
    assert all(recording.contexts(split) for split in SPLITS)
    assert not any(overlap(*pair) for pair in combinations(recording.manifest.contexts, 2))
    assert "passages of the same text" in recording.manifest.note


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([("a", 100), ("b", 20)], {}, "The text b has 20 tokens, and 45 are needed"),
        ([("a", 100)], {}, "The texts give 2 contexts of 45 tokens, and at least 3 are needed"),
        ([("a", 100), ("a", 100), ("b", 100)], {}, "given twice"),
        ([("a", 200)], {"layers": [0, 3]}, r"model has the layers 0 \.\. 2"),
        ([("a", 200)], {"steps": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_recorded_is_refused_and_leaves_nothing(
    tiny_model: Path, tmp_path: Path, texts: list[tuple[str, int]], options: dict[str, Any], message: str
) -> None:
    settings = {"prefill": 40, "steps": 5, **options}
    with pytest.raises(KvolveError, match=message):
        record(str(tiny_model), [text(*each) for each in texts], tmp_path / "out", **settings)
    assert list(tmp_path.iterdir()) == []


def test_values_beyond_fp16_are_refused_with_their_layer(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    model = save_tiny_model(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["model.layers.1.self_attn.v_proj.weight"] *= 1e7
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert torch.isfinite(weights["model.layers.1.self_attn.v_proj.weight"]).all()
    with pytest.raises(KvolveError, match="Layer 1 has values beyond fp16"):
        record(str(model), [text("a", 200)], tmp_path / "out", prefill=40, steps=5)


def test_sliding_windows_are_left_out_unless_asked_for_and_then_refused(tmp_path: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    model = save_tiny_model(tmp_path / "model")
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": len(WORDS) + 1}
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    kinds = ["sliding_attention", "full_attention"]
    windows = {"use_sliding_window": True, "sliding_window": 8, "layer_types": kinds}
    Qwen2ForCausalLM(Qwen2Config(**shape, **heads, **windows)).save_pretrained(model)
    texts = [text("a", 200)]
    assert record(str(model), texts, tmp_path / "out", prefill=40, steps=5).manifest.layers == (1,)
    with pytest.raises(KvolveError, match="Layer 0 of the model has a sliding window"):
        record(str(model), texts, tmp_path / "other", prefill=40, steps=5, layers=[0])


def test_a_folder_that_exists_is_not_overwritten(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(KvolveError, match="exists already"):
        record(str(tiny_model), [text("a", 200)], tmp_path, prefill=40, steps=5)
    assert (tmp_path / "mine").read_text() == "keep"


def test_an_interrupted_recording_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(str(tiny_model), [text("a", 200)], tmp_path / "out", prefill=40, steps=5, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_user_texts_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(KvolveError, match=r"latin\.txt is not UTF-8"):
        user_texts([tmp_path / "latin.txt"])
    with pytest.raises(KvolveError, match=r"none\.txt cannot be read"):
        user_texts([tmp_path / "none.txt"])


def test_the_full_recording_lives_in_the_cache_under_a_name_of_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVOLVE_CACHE", str(tmp_path))
    path = full_recording_path()
    assert path == full_recording_path()
    assert path.parent == tmp_path / "recordings"
    monkeypatch.setattr("evaluators.record_model.PREFILL", 1024)
    assert full_recording_path() != path
