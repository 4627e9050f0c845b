"""Recorded attention: queries, keys and values of a real model, read without importing torch.

A recording is a folder: `manifest.json`, and one safetensors file per context with fp16 tensors for each
recorded layer: `queries.<layer>` [S, H, D], `keys.<layer>` and `values.<layer>` [G, N + S, D], all after
RoPE. Decode step t uses query t and may read the tokens 0 .. N + t, itself included; the score of a token is
`q.k / sqrt(D)`. `prompt_queries.<layer>` [P, H, D] are those of the tokens at `prompt_positions(N)`.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from evaluators.corpus import SPLITS, Split
from evaluators.models import file_sha256
from kvolve import KvolveError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT_VERSION: Literal[2] = 2
MANIFEST = "manifest.json"
PROMPT_BLOCKS, PROMPT_BLOCK = 4, 64  # whose queries are recorded, and the tokens in each of them
SMALL_RECORDING = Path(__file__).parent / "recordings" / "small"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ContextInfo(_Record):
    """One context: which passage of which text it is, and the file that holds its tensors."""

    file: str
    size_bytes: Count
    sha256: Sha256
    splits: tuple[Split, ...] = Field(min_length=1)
    text: str
    text_kind: str
    text_sha256: Sha256
    tokens: tuple[int, int]  # of the text, half-open
    prefill: Count  # N
    steps: Count  # S

    @field_validator("file")
    @classmethod
    def _stays_in_the_folder(cls, file: str) -> str:
        if PurePath(file).name != file:
            raise ValueError("must be a plain file name")
        return file


class Manifest(_Record):
    """What a recording holds, and what it was made from."""

    format: Literal[2] = FORMAT_VERSION
    note: str
    model: str
    weights_sha256: Sha256
    num_layers: Count
    layers: tuple[int, ...] = Field(min_length=1)
    heads: Count  # H
    kv_heads: Count  # G
    head_size: Count  # D
    positions: tuple[int, int]  # of RoPE, half-open, the same for all contexts
    versions: dict[str, str]
    contexts: tuple[ContextInfo, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if (
            list(self.layers) != sorted(set(self.layers))
            or not 0 <= self.layers[0] <= self.layers[-1] < self.num_layers
        ):
            raise ValueError(f"layers must ascend within 0 .. {self.num_layers - 1}")
        if self.heads % self.kv_heads:
            raise ValueError("heads must be a multiple of kv_heads")
        shapes = {(context.prefill, context.steps) for context in self.contexts}
        if len(shapes) > 1 or sum(next(iter(shapes))) != self.positions[1] - self.positions[0]:
            raise ValueError("all contexts must have prefill + steps = the length of positions")
        if missing := set(SPLITS) - {split for context in self.contexts for split in context.splits}:
            raise ValueError(f"no context is in the split {min(missing)}")
        return self


@dataclass(frozen=True)
class LayerTensors:
    """One layer of one context, fp16."""

    queries: "NDArray[np.float16]"  # [S, H, D]
    prompt_queries: "NDArray[np.float16]"  # [P, H, D]
    keys: "NDArray[np.float16]"  # [G, N + S, D]
    values: "NDArray[np.float16]"  # [G, N + S, D]


@dataclass(frozen=True)
class Recording:
    """A recording on disk. Nothing but the manifest is read before a context is loaded."""

    path: Path
    manifest: Manifest
    hash: str  # SHA-256 of the manifest, which has the hashes of all data

    @classmethod
    def open(cls, path: Path, *, verify: bool = False, splits: Iterable[Split] = SPLITS) -> "Recording":
        """The recording in the folder `path`.

        Checks that the files of `splits` are there with the right size; with `verify`, also their hashes. (A
        process that may see one split only names it.) Raises KvolveError where something is missing or wrong.
        """
        manifest, content_hash = _read_manifest(path)
        recording = cls(path, manifest, content_hash)
        for context in dict.fromkeys(context for split in splits for context in recording.contexts(split)):
            recording._check(context)
            if verify and file_sha256(path / context.file) != context.sha256:
                raise _damaged(path, f"the content of {context.file} has changed")
        return recording

    def contexts(self, split: Split) -> tuple[ContextInfo, ...]:
        """The contexts of one split, in the order of the manifest."""
        return tuple(context for context in self.manifest.contexts if split in context.splits)

    def load(self, context: ContextInfo) -> dict[int, LayerTensors]:
        """The tensors of one context by layer, mapped read-only.

        Raises KvolveError for a file that is missing or damaged.
        """
        self._check(context)
        try:
            tensors = mapped(self.path / context.file)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(self.path, f"{context.file} is no safetensors file of fp16 tensors") from error
        manifest = self.manifest
        cached = (manifest.kv_heads, context.prefill + context.steps, manifest.head_size)
        shapes = {
            "queries": (context.steps, manifest.heads, manifest.head_size),
            "prompt_queries": (
                len(prompt_positions(context.prefill)),
                manifest.heads,
                manifest.head_size,
            ),
            "keys": cached,
            "values": cached,
        }
        for name, shape in (
            (f"{part}.{layer}", shape) for part, shape in shapes.items() for layer in manifest.layers
        ):
            if name not in tensors or tensors[name].shape != shape:
                raise _damaged(self.path, f"{context.file} has no fp16 tensor {name} of shape {list(shape)}")
        return {
            layer: LayerTensors(*(tensors[f"{part}.{layer}"] for part in shapes)) for layer in manifest.layers
        }

    def _check(self, context: ContextInfo) -> None:
        file = self.path / context.file
        try:
            size_bytes = file.stat().st_size
        except OSError as error:
            raise _damaged(self.path, f"{context.file} cannot be read ({error.strerror})") from error
        if size_bytes != context.size_bytes:
            raise _damaged(
                self.path, f"{context.file} has {size_bytes:,} bytes instead of {context.size_bytes:,}"
            )


def prompt_blocks(prefill: int) -> tuple[tuple[int, int], ...]:
    """The blocks of a prompt whose queries are recorded, half-open: the end of each of its quarters."""
    ends = [prefill * quarter // PROMPT_BLOCKS for quarter in range(1, PROMPT_BLOCKS + 1)]
    return tuple((max(end - PROMPT_BLOCK, begin), end) for begin, end in pairwise([0, *ends]))


def prompt_positions(prefill: int) -> tuple[int, ...]:
    """The tokens of a prompt whose queries are recorded, those of `prompt_blocks`."""
    return tuple(token for begin, end in prompt_blocks(prefill) for token in range(begin, end))


def mapped(file: Path) -> "dict[str, NDArray[np.float16]]":
    """The fp16 tensors of a safetensors file, mapped: processes of one machine share the pages.

    The format: eight bytes with the size of a JSON header, which gives dtype, shape and place of each tensor.
    """
    import numpy as np

    data = np.asarray(np.memmap(file, np.uint8, mode="r"))  # plain views of it are faster to take
    start = 8 + int(data[:8].view("<u8")[0])
    header = json.loads(bytes(data[8:start]))
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F16":
            begin, end = entry["data_offsets"]
            tensors[name] = data[start + begin : start + end].view("<f2").reshape(entry["shape"])
    return tensors


def manifest_hash(manifest: Manifest) -> str:
    """The content hash of a recording."""
    return hashlib.sha256(manifest.model_dump_json().encode()).hexdigest()


def _read_manifest(path: Path) -> tuple[Manifest, str]:
    try:
        content = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise KvolveError(
            f"There is no recording at {path}: {MANIFEST} cannot be read ({error.strerror}). "
            "Make one with kvolve record."
        ) from error
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise _damaged(path, f"{MANIFEST} is not valid ({where}: {first['msg']})") from error
    return manifest, manifest_hash(manifest)


def _damaged(path: Path, what: str) -> KvolveError:
    return KvolveError(
        f"The recording {path} cannot be used: {what}. Delete it and make it again with kvolve record."
    )
