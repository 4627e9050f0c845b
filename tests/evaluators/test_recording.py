"""Recordings on disk: what the committed one holds, and what is refused."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.corpus import SPLITS, cut_passages, shipped_text
from evaluators.models import DEFAULT_MODEL, load_model, weights_path
from evaluators.record_model import observe
from evaluators.recording import MANIFEST, SMALL_RECORDING, Recording, prompt_positions
from kvolve import KvolveError


@pytest.fixture(scope="module")
def small() -> Recording:
    return Recording.open(SMALL_RECORDING, verify=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SMALL_RECORDING, tmp_path / "copy"))


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


# --- the committed recording ---


def test_small_recording_is_within_ten_megabytes(small: Recording) -> None:
    assert sum(file.stat().st_size for file in SMALL_RECORDING.iterdir()) <= 10_000_000


def test_small_recording_serves_every_split_and_holds_the_search_context_apart(small: Recording) -> None:
    search, validation, holdout = (small.contexts(split) for split in SPLITS)
    assert len(search) == 1
    assert validation == holdout
    assert not set(search) & set(holdout)
    assert "small" in small.manifest.note


def test_small_recording_is_of_the_texts_that_ship(small: Recording) -> None:
    for context in small.manifest.contexts:
        assert shipped_text(context.text).sha256 == context.text_sha256


def test_reading_a_recording_imports_no_torch() -> None:
    code = (
        "import sys; from evaluators.recording import *; r = Recording.open(SMALL_RECORDING); "
        "r.load(r.contexts('search')[0]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_dense_attention_over_the_causal_length_is_a_mean_of_the_recorded_values(small: Recording) -> None:
    manifest = small.manifest
    group = manifest.heads // manifest.kv_heads
    for context in small.manifest.contexts:
        for layer in small.load(context).values():
            for step in range(context.steps):
                length = context.prefill + step + 1
                keys = np.repeat(layer.keys[:, :length].astype(np.float64), group, axis=0)
                values = np.repeat(layer.values[:, :length].astype(np.float64), group, axis=0)
                scores = np.einsum("hd,hnd->hn", layer.queries[step], keys) / np.sqrt(manifest.head_size)
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                weights /= weights.sum(axis=1, keepdims=True)
                output = np.einsum("hn,hnd->hd", weights, values)
                assert weights.shape == (manifest.heads, length)
                np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
                assert np.all(output <= values.max(axis=1) + 1e-9)
                assert np.all(output >= values.min(axis=1) - 1e-9)


def test_attention_of_a_deep_layer_concentrates_on_few_tokens(small: Recording) -> None:
    context = small.contexts("search")[0]
    layer = small.load(context)[14]
    group = small.manifest.heads // small.manifest.kv_heads
    keys = np.repeat(layer.keys.astype(np.float64), group, axis=0)[:, : context.prefill]
    scores = np.einsum("shd,hnd->shn", layer.queries.astype(np.float64), keys) / 8
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    largest_tenth = np.sort(weights, axis=-1)[..., -context.prefill // 10 :].sum(axis=-1)
    assert largest_tenth.mean() > 0.7


@pytest.mark.weights
def test_the_recorded_layers_are_what_the_weights_give(small: Recording) -> None:
    try:
        weights_path(DEFAULT_MODEL)
    except KvolveError as error:
        pytest.skip(f"the weights cannot be had: {error}")
    import torch

    model, tokenizer = load_model(DEFAULT_MODEL)
    context = small.contexts("search")[0]
    passage = cut_passages([shipped_text(context.text)], tokenizer, context.prefill + context.steps)[0][0]
    recorded = small.load(context)[14]
    queries, keys, values = observe(model, passage.tokens, (14,))[14]
    by_token = queries.transpose(0, 1)
    prompt = by_token[list(prompt_positions(context.prefill))]
    fresh = (by_token[context.prefill :], prompt, keys, values)
    kept = (recorded.queries, recorded.prompt_queries, recorded.keys, recorded.values)
    for again, stored in zip(fresh, kept, strict=True):
        # half a unit in the last place of fp16, and float32 noise of 14 layers
        torch.testing.assert_close(again, torch.from_numpy(stored.copy()).float(), rtol=6e-4, atol=1e-3)


def test_queries_of_a_prompt_are_those_at_the_ends_of_its_quarters() -> None:
    places = prompt_positions(2048)
    assert len(places) == 4 * 64
    assert [places[start] for start in range(0, 256, 64)] == [448, 960, 1472, 1984]
    assert places[-1] == 2047
    for prefill in range(1, 300):  # of a short prompt all, and none twice
        places = prompt_positions(prefill)
        assert list(places) == sorted(set(places))
        assert places[-1] == prefill - 1
        assert len(places) == min(prefill, 256)


# --- what is refused ---


def test_a_folder_without_a_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(KvolveError, match="no recording at"):
        Recording.open(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 1),
        ("layers", [0, 99]),
        ("layers", [14, 0]),
        ("heads", 10),
        ("weights_sha256", "abc"),
        ("contexts", []),
        ("positions", [0, 5]),
        ("surprise", 1),
    ],
)
def test_a_manifest_that_cannot_be_right_is_refused(copy: Path, field: str, value: object) -> None:
    change_manifest(copy, lambda manifest: manifest.update({field: value}))
    with pytest.raises(KvolveError, match=r"manifest\.json is not valid"):
        Recording.open(copy)


def test_a_manifest_that_is_no_json_is_refused(copy: Path) -> None:
    (copy / MANIFEST).write_text("{")
    with pytest.raises(KvolveError, match=r"manifest\.json is not valid"):
        Recording.open(copy)


def test_a_manifest_that_points_out_of_its_folder_is_refused(copy: Path) -> None:
    change_manifest(copy, lambda manifest: manifest["contexts"][0].update(file="../secret.safetensors"))
    with pytest.raises(KvolveError, match="plain file name"):
        Recording.open(copy)


def test_a_manifest_without_a_holdout_is_refused(copy: Path) -> None:
    change_manifest(copy, lambda manifest: manifest["contexts"][1].update(splits=["validation"]))
    with pytest.raises(KvolveError, match="no context is in the split holdout"):
        Recording.open(copy)


def test_a_missing_file_is_found_on_opening(copy: Path) -> None:
    (copy / "context_01.safetensors").unlink()
    with pytest.raises(KvolveError, match=r"context_01\.safetensors cannot be read"):
        Recording.open(copy)


def test_a_truncated_file_is_found_on_opening(copy: Path) -> None:
    file = copy / "context_00.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(KvolveError, match="bytes instead of"):
        Recording.open(copy)


def test_a_changed_byte_is_found_by_verifying(copy: Path) -> None:
    file = copy / "context_00.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    Recording.open(copy)
    with pytest.raises(KvolveError, match=r"content of context_00\.safetensors has changed"):
        Recording.open(copy, verify=True)


def test_a_file_of_the_right_size_with_a_broken_header_is_refused_on_loading(copy: Path) -> None:
    file = copy / "context_00.safetensors"
    file.write_bytes(b"\xff" * file.stat().st_size)
    recording = Recording.open(copy)
    with pytest.raises(KvolveError, match="is no safetensors file"):
        recording.load(recording.contexts("search")[0])


def test_tensors_of_another_shape_than_the_manifest_says_are_refused(copy: Path) -> None:
    change_manifest(copy, lambda manifest: manifest.update(head_size=32))
    recording = Recording.open(copy)
    with pytest.raises(KvolveError, match=r"no fp16 tensor queries\.0 of shape \[32, 9, 32\]"):
        recording.load(recording.contexts("search")[0])


def test_a_reader_of_one_split_needs_no_file_of_another(copy: Path) -> None:
    (copy / "context_01.safetensors").unlink()
    recording = Recording.open(copy, splits=("search",))
    assert set(recording.load(recording.contexts("search")[0])) == {0, 14, 27}


def test_the_hash_of_a_recording_follows_its_content(copy: Path, small: Recording) -> None:
    assert Recording.open(copy).hash == small.hash
    change_manifest(copy, lambda manifest: manifest.update(note="changed"))
    assert Recording.open(copy).hash != small.hash
