"""Bad input gets one or two plain sentences and exit code 2, and nothing is overwritten."""

import json
import shutil
import signal
import sqlite3
from contextlib import closing

import pytest

from evaluators.recording import SMALL_RECORDING
from tests.evaluators.test_record_model import WORDS, save_tiny_model
from tests.integration.conftest import BEGUN, FEW, SMALL

RUN = ("run", "token_selection", *SMALL, "--max-evaluations")


def test_an_unknown_problem_names_the_known_ones(kvolve):
    assert "Known problems: token_selection" in kvolve("run", "no_such_problem", code=2)


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("problem = ", "not valid TOML"),
        ('problem = "token_selection"\nspeed = 3', "no setting 'speed'"),
        ('problem = "token_selection"\nworkers = 0', "'workers' is 0"),
        ('problem = "token_selection"\npool = "cloud"', "'pool' is 'cloud'"),
        ("seed = 1", "'problem' is missing"),
    ],
)
def test_a_malformed_preset_says_what_is_wrong(kvolve, toml, words):
    (kvolve.folder / "preset.toml").write_text(toml)
    assert words in kvolve("run", "preset.toml", code=2)


def test_a_missing_preset_or_run_or_candidate_is_said(kvolve, finished):
    assert "cannot be read" in kvolve("run", "nowhere.toml", code=2)
    assert "no run at" in kvolve("inspect", "nowhere", code=2)
    assert "no run at" in kvolve("resume", "nowhere", code=2)
    command, run = finished
    assert "No candidate begins" in command("inspect", run, "ffffffffffff", code=2)


def test_a_missing_recording_is_said(kvolve):
    assert "manifest.json" in kvolve("run", "token_selection", "--recording", "nowhere", code=2)


def test_a_corrupted_recording_is_said(kvolve):
    copy = kvolve.folder / "copy"
    shutil.copytree(SMALL_RECORDING, copy)
    file = next(copy.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    assert "has changed" in kvolve("run", "token_selection", "--recording", "copy", code=2)
    assert not (kvolve.folder / "runs").exists()


def test_a_run_directory_that_cannot_be_written_is_said(kvolve):
    (kvolve.folder / "file").write_text("not a folder")
    assert "cannot be made" in kvolve(*RUN, 20, "--run-dir", "file/run", code=2)
    assert (kvolve.folder / "file").read_text() == "not a folder"


def test_a_second_run_on_the_same_directory_is_refused_and_changes_nothing(finished):
    kvolve, run = finished
    before = kvolve("inspect", run, "--hash")
    assert "kvolve resume" in kvolve(*RUN, 20, "--run-dir", run, code=2)
    assert kvolve("inspect", run, "--hash") == before


def test_a_directory_that_another_process_writes_is_refused(kvolve):
    process = kvolve.start(*RUN, 400, "--run-dir", "run", "--plain")
    for line in process.stdout:
        if " of 400" in line:
            break
    try:
        assert f"process {process.pid}" in kvolve("resume", "run", code=2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_an_archive_of_a_newer_version_is_refused_and_left_alone(finished, tmp_path):
    kvolve, run = finished
    copy = tmp_path / "newer"
    shutil.copytree(run, copy)
    with closing(sqlite3.connect(copy / "archive.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = (copy / "archive.db").read_bytes()
    for command in ("inspect", "resume"):
        assert "newer" in kvolve(command, copy, code=2)
    assert (copy / "archive.db").read_bytes() == before


def test_a_file_that_is_no_archive_is_refused(kvolve):
    (kvolve.folder / "run").mkdir()
    (kvolve.folder / "run" / "archive.db").write_text("hello, I am not a database at all" * 100)
    assert "not a kvolve archive" in kvolve("inspect", "run", code=2)


def test_another_recording_than_that_of_the_run_is_refused_on_resume(kvolve):
    shutil.copytree(SMALL_RECORDING, kvolve.folder / "copy")
    kvolve(
        "run",
        "token_selection",
        "--recording",
        "copy",
        *FEW,
        "--max-evaluations",
        BEGUN,
        "--run-dir",
        "run",
    )
    manifest = kvolve.folder / "copy" / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"note": "another one"}))
    assert "not those that" in kvolve("resume", "run", code=2)


def test_a_recording_too_short_for_any_seed_is_said(kvolve):
    model = save_tiny_model(kvolve.folder / "model")
    for stride, name in enumerate("abc", start=1):
        words = (WORDS[i * stride % len(WORDS)] for i in range(80))
        (kvolve.folder / f"{name}.txt").write_text(" ".join(words))
    texts = [argument for name in "abc" for argument in ("--text", f"{name}.txt")]
    kvolve("record", "--model", model, *texts, "--out", "mine", "--prefill", 12, "--steps", 4)
    process = kvolve.start("run", "token_selection", "--recording", "mine", *FEW, "--max-evaluations", 20)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 2, text
    assert "No seed has a score" in text
    assert "Traceback" not in text


def test_an_export_target_that_does_not_exist_is_said(finished):
    kvolve, run = finished
    assert "Known targets: library" in kvolve("export", run, "champion", "--to", "moon", code=2)


def test_a_recording_without_texts_is_said(kvolve):
    assert "--text" in kvolve("record", "--model", "x", code=2)
    (kvolve.folder / "x").write_text("a text")
    assert "give numbers" in kvolve("record", "--text", "x", "--out", "y", "--layers", "a,b", code=2)
