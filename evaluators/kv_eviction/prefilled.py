"""Contexts that a model has read: made once, kept on disk, mapped by every process that needs them."""

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from evaluators.corpus import SPLITS, Split, Text, user_texts
from evaluators.kv_eviction.contexts import Asked, Context, contexts_of
from evaluators.models import (
    DEFAULT_MODEL,
    file_sha256,
    full_layers,
    load_model,
    text_config,
    weights_path,
    weights_sha256,
)
from evaluators.recording import mapped
from kvolve import KvolveError, cache_folder

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Progress = Callable[[int, int], None]

LENGTH, SMALL_LENGTH = 2048, 384
PROBE_LENGTH = 1024  # so long that windows of published policies are small in it
CONTINUATION = 256
SMALL_COUNT = 2  # contexts of a split
FUTURE = 512  # positions over which queries to come are averaged
SINKS = 4  # first tokens, whose queries are like no others'
MANIFEST = "manifest.json"
MAKING = (
    "contexts",
    "facts",
    "running_text",
    "prefilled",
    "compression",
    "measuring",
    "running",
)  # by what code


class Entry(BaseModel):
    """One context on disk."""

    model_config = ConfigDict(frozen=True)

    split: str  # or "probe"
    name: str
    shape: str
    tokens: tuple[int, ...]
    continuation: tuple[int, ...]
    conversations: tuple[tuple[Asked, Asked], ...]
    file: str
    sha256: str


class Manifest(BaseModel):
    """What a folder of contexts holds."""

    model_config = ConfigDict(frozen=True)

    model: str
    weights_sha256: str
    layers: tuple[int, ...]  # that attend to all tokens before: those that are compressed
    num_layers: int
    versions: dict[str, str]
    contexts: tuple[Entry, ...]


@dataclass(frozen=True)
class LayerData:
    """One layer of one context, fp16."""

    keys: "NDArray[np.float16]"  # [G, N, D], after RoPE
    values: "NDArray[np.float16]"
    queries: "NDArray[np.float16]"  # [H, W, D], of the last tokens
    query_mean: "NDArray[np.float16]"  # [H, D]
    query_covariance: "NDArray[np.float16]"  # [H, D, D]
    received: "NDArray[np.float16]"  # [blocks, G, N]
    frequent: "NDArray[np.float16]"


@dataclass(frozen=True)
class Folder:
    """Contexts on disk."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """Raises KvolveError for what is no folder of contexts."""
        try:
            return cls(path, Manifest.model_validate_json((path / MANIFEST).read_bytes()))
        except (OSError, ValueError) as error:
            raise KvolveError(
                f"There are no contexts at {path}: {MANIFEST} cannot be read. Leave out --recording, or give "
                "full, small or a folder that a run of kv_eviction has made."
            ) from error

    def entries(self, split: str) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.manifest.contexts if entry.split == split)

    def version(self, split: str) -> str:
        """A hash of everything that decides what is measured on a split."""
        of = [entry.model_dump_json() for entry in self.entries(split)]
        return hashlib.sha256(json.dumps([self.manifest.weights_sha256, of]).encode()).hexdigest()

    def tensors(self, entry: Entry) -> "dict[str, NDArray[np.float16]]":
        """Raises KvolveError for a file that is missing or damaged."""
        try:
            return mapped(self.path / entry.file)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KvolveError(
                f"The contexts {self.path} cannot be used: {entry.file} is damaged. Delete the folder; the "
                "next run makes it again."
            ) from error


@dataclass(frozen=True)
class Prefilled:
    """A context that a model has read."""

    entry: Entry
    layers: tuple[int, ...]  # numbers of the layers that are compressed
    num_layers: int
    tensors: "dict[str, NDArray[np.float16]]"

    @property
    def length(self) -> int:
        return len(self.entry.tokens)

    @cached_property
    def data(self) -> tuple[LayerData, ...]:
        """Of the layers that are compressed."""
        names = LayerData.__annotations__
        return tuple(LayerData(*(self.tensors[f"{name}.{layer}"] for name in names)) for layer in self.layers)

    def windowed(self) -> "dict[int, tuple[NDArray[np.float16], NDArray[np.float16]]]":
        """Keys and values of the other layers."""
        others = set(range(self.num_layers)) - set(self.layers)
        return {layer: (self.tensors[f"keys.{layer}"], self.tensors[f"values.{layer}"]) for layer in others}


def prefilled(folder: Folder, split: str, most: int | None = None) -> tuple[Prefilled, ...]:
    """The contexts of a split."""
    manifest = folder.manifest
    return tuple(
        Prefilled(entry, manifest.layers, manifest.num_layers, folder.tensors(entry))
        for entry in folder.entries(split)[:most]
    )


def statistics(
    queries: "torch.Tensor", keys: "torch.Tensor", block: int
) -> "tuple[torch.Tensor, torch.Tensor]":
    """What each block of queries [H, N, D] pays to keys [G, N, D], as `paid` says: [blocks, G, N] both."""
    import torch

    from evaluators.kv_eviction.compression import Tokens, paid

    kv_heads, length, _ = keys.shape
    found = torch.zeros(2, -(-length // block), kv_heads, length)
    for number in range(found.shape[1]):
        begin, end = number * block, min(length, (number + 1) * block)
        positions = np.broadcast_to(np.arange(end), (kv_heads, end)).copy()
        seen = Tokens(keys[:, :end], keys[:, :end], positions)
        found[:, number, :, :end] = torch.stack(paid(queries[:, begin:end], seen, np.arange(begin, end)))
    return found[0], found[1]


def moments(
    queries: "torch.Tensor", cosine: "torch.Tensor", sine: "torch.Tensor"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Mean [H, D] and covariance [H, D, D] of queries [H, N, D] as they would be at the next positions.

    Their rotation (`cosine`, `sine` [N, D]) is taken back, and that of the next `FUTURE` positions, averaged,
    put in its place (Expected Attention, arXiv:2510.00636).
    """
    import torch

    def half_turned(x: "torch.Tensor") -> "torch.Tensor":
        first, second = x.chunk(2, -1)
        return torch.cat([-second, first], -1)

    bare = (queries * cosine - half_turned(queries) * sine)[:, SINKS:]
    steps = min(FUTURE, len(cosine) - 1)
    cos, sin = cosine[1 : steps + 1], sine[1 : steps + 1]
    ahead_cosine = (cosine[-1] * cos - sine[-1] * sin).mean(0)
    ahead_sine = (sine[-1] * cos + cosine[-1] * sin).mean(0)

    def ahead(x: "torch.Tensor") -> "torch.Tensor":
        return x * ahead_cosine + half_turned(x) * ahead_sine

    mean = bare.mean(1)
    centred = ahead(bare - mean[:, None])
    return ahead(mean), centred.transpose(1, 2) @ centred / centred.shape[1]


def read(model: Any, context: Context) -> "dict[str, torch.Tensor]":
    """What a model has of a context after it has read it, as fp16 tensors."""
    import torch

    from evaluators.kv_eviction.layer import BLOCK
    from evaluators.models import require_plain_attention, scaled, watched_attention

    full = full_layers(model)
    found: dict[str, torch.Tensor] = {}
    rotations: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def see(
        layer: int, query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor", options: dict[str, Any]
    ) -> None:
        found[f"keys.{layer}"], found[f"values.{layer}"] = key[0], value[0]
        if layer not in full:
            return
        require_plain_attention(layer, key, value, options)
        queries = scaled(query, options)[0]
        found[f"queries.{layer}"] = queries[:, -BLOCK:]
        mean, covariance = moments(queries, *rotations[layer])
        found[f"query_mean.{layer}"], found[f"query_covariance.{layer}"] = mean, covariance
        received, frequent = statistics(queries, key[0].half().float(), BLOCK)
        found[f"received.{layer}"], found[f"frequent.{layer}"] = received, frequent

    def remember(module: Any, _: Any, named: dict[str, Any]) -> None:
        cosine, sine = named["position_embeddings"]
        rotations[module.layer_idx] = cosine[0].float(), sine[0].float()

    hooks = [
        module.register_forward_pre_hook(remember, with_kwargs=True)
        for module in model.modules()
        if hasattr(module, "layer_idx") and hasattr(module, "q_proj")
    ]
    try:
        with torch.no_grad(), watched_attention(model, see):
            model(torch.tensor([context.tokens]), use_cache=False, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    halves = {name: tensor.half().contiguous() for name, tensor in found.items()}
    if broken := [name for name, tensor in halves.items() if not tensor.isfinite().all()]:
        raise KvolveError(f"The model's {broken[0]} do not fit into fp16. Take another model.")
    return halves


def make(
    out: Path,
    model_name: str,
    contexts: Sequence[tuple[str, Context]],
    model: Any,
    *,
    say: Callable[[str], None],
    progress: "Progress",
) -> Folder:
    """Lets a model read contexts, each with its split, into the new folder `out`, which appears when all is
    there.
    """
    from safetensors.torch import save_file

    from evaluators.kv_eviction.references import write_random

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".prefill-") as made:
        folder = Path(made, "contexts")
        folder.mkdir()
        entries = []
        for number, (split, context) in enumerate(contexts):
            progress(number, len(contexts))
            file = f"{number:03}.safetensors"
            save_file(read(model, context), folder / file)
            entries.append(Entry(split=split, file=file, sha256=file_sha256(folder / file), **vars(context)))
        manifest = Manifest(
            model=model_name,
            weights_sha256=weights_sha256(weights_path(model_name)),
            layers=full_layers(model),
            num_layers=text_config(model).num_hidden_layers,
            versions={name: importlib.metadata.version(name) for name in ("torch", "transformers")},
            contexts=tuple(entries),
        )
        (folder / MANIFEST).write_text(manifest.model_dump_json() + "\n", encoding="utf-8")
        progress(len(contexts), len(contexts))
        say("Measuring what random eviction costs in each of them, once.")
        write_random(Folder.open(folder), model, progress)
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    return Folder.open(out)


def chosen_contexts(
    tokenizer: Any, length: int, texts: Sequence[Text] | None, count: int | None
) -> list[tuple[str, Context]]:
    """The contexts of all splits, and that of the probe."""
    found: list[tuple[str, Context]] = []
    for split in SPLITS:
        found += [(split, context) for context in _of(split, tokenizer, length, texts)[:count]]
    return [("probe", _of("search", tokenizer, min(length, PROBE_LENGTH), texts)[0]), *found]


def _of(split: Split, tokenizer: Any, length: int, texts: Sequence[Text] | None) -> tuple[Context, ...]:
    return contexts_of(split, tokenizer, length, CONTINUATION, texts)


def ensure(
    name: str,
    model: str,
    texts: Sequence[Path],
    length: int | None,
    *,
    say: Callable[[str], None],
    progress: "Progress",
) -> Path:
    """The folder of contexts that settings name: full, small or a folder; made on first use.

    Raises KvolveError for a model that cannot be loaded, texts that are too short, and a folder that is none.
    """
    if name not in ("full", "small"):
        if model or texts or length:
            raise KvolveError(
                f"The contexts {name} are made already. Leave out --model, --text and --prefill, or "
                "--recording."
            )
        return Folder.open(Path(name)).path
    model = model or DEFAULT_MODEL
    small = name == "small"
    length = length or (SMALL_LENGTH if small else LENGTH)
    given = user_texts(texts) if texts else None
    weights = weights_path(model)
    if Path(model).expanduser().exists():
        model = str(weights)  # workers have another folder
    own = (Path(__file__).with_name(f"{module}.py").read_bytes() for module in MAKING)
    code = hashlib.sha256(b"".join(own)).hexdigest()
    key = [
        code,
        weights_sha256(weights),
        length,
        small,
        [text.sha256 for text in given or ()],
    ]
    out = cache_folder() / "contexts" / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    if (out / MANIFEST).exists():
        return Folder.open(out).path
    loaded, tokenizer = load_model(model)
    contexts = chosen_contexts(tokenizer, length, given, SMALL_COUNT if small else None)
    say(f"Letting {model} read {len(contexts)} contexts of {length:,} tokens, once.")
    return make(out, model, contexts, loaded, say=say, progress=progress).path
