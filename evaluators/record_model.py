"""Makes recordings: one teacher-forced forward pass over N + S tokens of a text gives S decode steps."""

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.corpus import Passage, Text, cut_passages, shipped_text, shipped_texts
from evaluators.models import (
    DEFAULT_MODEL,
    GGUF_SHA256,
    AllRecorded,
    file_sha256,
    full_layers,
    load_model,
    observed_attention,
    text_config,
    weights_path,
    weights_sha256,
)
from evaluators.recording import (
    FORMAT_VERSION,
    MANIFEST,
    SMALL_RECORDING,
    ContextInfo,
    Manifest,
    Recording,
    prompt_positions,
)
from kvolve import KvolveError, cache_folder

if TYPE_CHECKING:
    import torch

    from evaluators.models import Observed

Progress = Callable[[int, int], None]  # contexts done, contexts in all

VERSIONED = ("kvolve", "torch", "transformers")  # what decides the tensors, besides model and texts
PREFILL = 2048
STEPS = 32
FULL_LAYERS = (0, 9, 18, 27)
FULL_DEPTHS = tuple(layer / 30 for layer in FULL_LAYERS)  # of the default model
SMALL_LAYERS = (0, 14, 27)
SMALL_PREFILL = 992
SMALL_TEXTS = ("prose/search-emma.txt", "documentation/validation-python_unicode.txt")


def record(
    model_name: str,
    texts: Sequence[Text],
    out: Path,
    *,
    layers: Sequence[int] | None = None,
    prefill: int = PREFILL,
    steps: int = STEPS,
    progress: Progress | None = None,
    note: str = "",
) -> Recording:
    """Records a model over texts into the new folder `out`.

    `layers` are recorded (default: four, spread over the depth, from layer 0 on), for contexts of `prefill`
    tokens and `steps` decode steps. `out` appears only when all is written.

    Raises KvolveError for a model that cannot be loaded, texts that are too short, layers that do not exist,
    values beyond fp16, and an `out` that exists or cannot be written.
    """
    if prefill < 1 or steps < 1:
        raise KvolveError(f"A recording needs prefill and steps of at least 1, got {prefill} and {steps}.")
    with _new_folder(out) as folder:
        model, tokenizer = load_model(model_name)
        chosen = _choose_layers(model, layers)
        passages, warning = cut_passages(texts, tokenizer, prefill + steps)
        contexts = []
        shapes: set[tuple[int, int, int]] = set()
        for done, passage in enumerate(passages):
            if progress:
                progress(done, len(passages))
            observed = observe(model, passage.tokens, chosen)
            shapes |= {(len(q), len(k), q.shape[-1]) for q, k, _ in observed.values()}
            contexts.append(_write_context(folder, done, passage, observed, prefill))
        if len(shapes) > 1:
            raise KvolveError(
                f"The layers {list(chosen)} differ in heads or head size. Record like layers together."
            )
        heads, kv_heads, head_size = shapes.pop()
        manifest = Manifest(
            note="; ".join(filter(None, (note, warning))),
            model=_stated_name(model_name),
            weights_sha256=weights_sha256(weights_path(model_name)),
            num_layers=text_config(model).num_hidden_layers,
            layers=chosen,
            heads=heads,
            kv_heads=kv_heads,
            head_size=head_size,
            positions=(0, prefill + steps),
            versions={name: importlib.metadata.version(name) for name in VERSIONED},
            contexts=tuple(contexts),
        )
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        if progress:
            progress(len(passages), len(passages))
    return Recording.open(out)


def record_small(out: Path = SMALL_RECORDING, progress: Progress | None = None) -> Recording:
    """Makes the small recording anew: two contexts and three layers of the default model."""
    search, other = (shipped_text(name) for name in SMALL_TEXTS)
    texts = (search, replace(other, splits=("validation", "holdout")))
    note = "small: validation and holdout are the same context, for tests and machines without a network"
    with tempfile.TemporaryDirectory(dir=_parent(out)) as folder:
        made = Path(folder) / out.name
        record(
            DEFAULT_MODEL,
            texts,
            made,
            layers=SMALL_LAYERS,
            prefill=SMALL_PREFILL,
            progress=progress,
            note=note,
        )
        if out.exists():
            Recording.open(out)  # replaces recordings only
            shutil.rmtree(out)
        made.rename(out)
    return Recording.open(out)


def full_recording_path() -> Path:
    """Where the full recording of the default model belongs in the cache: a name that its content decides."""
    texts = [(text.name, text.sha256) for text in shipped_texts()]
    key = json.dumps([FORMAT_VERSION, GGUF_SHA256, FULL_LAYERS, PREFILL, STEPS, texts])
    return cache_folder() / "recordings" / f"full-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def ensure_full_recording(progress: Progress | None = None) -> Recording:
    """The full recording of the default model over all shipped texts; made (1 to 2 minutes) when missing.

    Raises KvolveError when the weights cannot be fetched, so that a caller can take `SMALL_RECORDING`.
    """
    path = full_recording_path()
    if path.exists():
        return Recording.open(path)
    return record(DEFAULT_MODEL, shipped_texts(), path, layers=FULL_LAYERS, progress=progress)


def observe(model: Any, tokens: Sequence[int], layers: Sequence[int]) -> "dict[int, Observed]":
    """Queries [H, T, D], keys and values [G, T, D] of `layers`, float32; runs no further layer."""
    import torch

    with torch.inference_mode(), observed_attention(model, tuple(layers)) as observed:
        try:
            model(torch.tensor([list(tokens)]), use_cache=False)
        except AllRecorded:
            return observed
    raise KvolveError(
        f"{type(model).__name__} does not run its attention through the AttentionInterface of transformers."
    )


def _write_context(
    folder: Path, number: int, passage: Passage, observed: "dict[int, Observed]", prefill: int
) -> ContextInfo:
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for layer, (queries, keys, values) in observed.items():
        by_token = queries.transpose(0, 1)  # [N + S, H, D]
        parts = {
            "queries": by_token[prefill:],
            "prompt_queries": by_token[list(prompt_positions(prefill))],
            "keys": keys,
            "values": values,
        }
        tensors |= {f"{part}.{layer}": _half(tensor, layer) for part, tensor in parts.items()}
    file = folder / f"context_{number:02d}.safetensors"
    save_file(tensors, file)
    file.chmod(0o644)  # safetensors makes files that nobody else can read
    return ContextInfo(
        file=file.name,
        size_bytes=file.stat().st_size,
        sha256=file_sha256(file),
        splits=passage.splits,
        text=passage.text.name,
        text_kind=passage.text.kind,
        text_sha256=passage.text.sha256,
        tokens=passage.token_range,
        prefill=prefill,
        steps=len(passage.tokens) - prefill,
    )


def _half(tensor: "torch.Tensor", layer: int) -> "torch.Tensor":
    half = tensor.half().contiguous()
    if not bool(half.isfinite().all()):
        raise KvolveError(
            f"Layer {layer} has values beyond fp16 (largest {tensor.abs().max():.3g}). Choose other layers."
        )
    return half


def _choose_layers(model: Any, layers: Sequence[int] | None) -> tuple[int, ...]:
    count = text_config(model).num_hidden_layers
    if layers is None:
        usable = full_layers(model)
        if not usable:
            raise KvolveError(
                "The model has no layer with full attention, so that there is nothing to record."
            )
        # up to 90% of the depth: the last layers cost time and are no other than their neighbours
        return tuple(sorted({usable[len(usable) * third * 3 // 10] for third in range(4)}))
    wrong = [layer for layer in layers if not 0 <= layer < count]
    if wrong or not layers:
        raise KvolveError(
            f"Layers {list(layers)} were asked for, but the model has the layers 0 .. {count - 1}."
        )
    return tuple(sorted(set(layers)))


def _stated_name(model_name: str) -> str:
    """The name for the manifest: of a local path, its last part."""
    path = Path(model_name).expanduser()
    return path.resolve().name if path.exists() else model_name


def _parent(out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KvolveError(f"The folder {out.parent} cannot be made: {error.strerror}.") from error
    return out.parent


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes `out` when the block ends, and vanishes when it fails."""
    if out.exists():
        raise KvolveError(f"{out} exists already. Choose another folder, or delete it first.")
    parent = _parent(out)
    try:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=f".{out.name}-"))
    except OSError as error:
        raise KvolveError(f"The folder {parent} cannot be written: {error.strerror}.") from error
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp makes folders that nobody else can read
        try:
            os.rename(folder, out)
        except OSError as error:
            # another process has made the same recording meanwhile: its content is as good
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
