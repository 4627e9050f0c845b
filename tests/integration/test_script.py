"""`kvolve run INITIAL.py EVALUATOR.py`: a folder as peers have them, from the first call to the export."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

EXAMPLES = os.environ.get("KVOLVE_EXAMPLES")  # a folder of folders with a program and an evaluator

PROGRAM = """\
# EVOLVE-BLOCK-START
SHARE = 0.4


def order(items, limit):
    return sorted(items, key=lambda size: abs(size - SHARE * limit))


# EVOLVE-BLOCK-END


def pack(items, limit):
    bins = []
    for size in order(items, limit):
        for one in bins:
            if sum(one) + size <= limit:
                one.append(size)
                break
        else:
            bins.append([size])
    return bins


def share():
    return SHARE
"""

EVALUATOR = """\
import importlib.util
import random


def evaluate(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    draw = random.Random(7)
    filled = []
    for _ in range(3):
        items = [draw.randint(10, 70) for _ in range(60)]
        bins = program.pack(items, 100)
        assert sorted(size for one in bins for size in one) == sorted(items)
        assert all(sum(one) <= 100 for one in bins)
        filled.append(sum(items) / (100 * len(bins)))
    print("share", program.share())
    return {"combined_score": sum(filled) / 3, "worst": min(filled)}
"""

CONFIG = """\
max_iterations: 9
random_seed: 3
log_level: INFO
llm:
  primary_model: some-model
  api_base: http://127.0.0.1:9/v1
  temperature: 0.5
  top_p: 0.9
prompt:
  system_message: Pack tightly.
database:
  num_islands: 1
  population_size: 50
evaluator:
  timeout: 30
  parallel_evaluations: 1
"""


@pytest.fixture
def peer(kvolve):
    """The command in a folder with an example in `example`."""
    folder = kvolve.folder / "example"
    folder.mkdir()
    (folder / "initial_program.py").write_text(PROGRAM)
    (folder / "evaluator.py").write_text(EVALUATOR)
    return kvolve


FILES = ("example/initial_program.py", "example/evaluator.py")


def test_a_run_goes_from_two_files_to_an_exported_program(peer):
    said = peer("run", *FILES, "--max-evaluations", 12, "--run-dir", "run")
    assert "The initial program scores 0.8" in said
    assert "A script has one evaluator" in said
    found = peer.inspect("run")
    assert found["problem"] == "script"
    assert [seed["name"] for seed in found["seeds"]] == ["initial"]
    assert found["best"]["score"] >= found["seeds"][0]["score"] > 0.8
    assert found["champion"]["holdout"] == found["champion"]["validation"]
    shown = peer("inspect", "run", found["seeds"][0]["hash"][:12])
    assert "returned share() = 0.4" in shown
    assert peer("compare", "run", "run")
    peer("export", "run", "champion", "--library", "library")
    (folder,) = (peer.folder / "library").iterdir()
    program = (folder / "program.py").read_text()
    assert program.partition("# EVOLVE-BLOCK-END")[2] == PROGRAM.partition("# EVOLVE-BLOCK-END")[2]


def test_the_archive_does_not_depend_on_workers_or_on_a_pause(peer):
    peer("run", *FILES, "--max-evaluations", 12, "--run-dir", "one", "--workers", 1)
    peer("run", *FILES, "--max-evaluations", 8, "--run-dir", "two", "--workers", 2)
    peer("resume", "two", "--max-evaluations", 12)
    assert len({peer.inspect(run)["best"]["hash"] for run in ("one", "two")}) == 1


def test_a_config_beside_the_evaluator_is_honoured_and_the_rest_of_it_named(peer):
    (peer.folder / "example" / "config.yaml").write_text(CONFIG)
    said = peer("run", *FILES, "--run-dir", "run", "--seed", 4)
    assert "Not used: log_level, llm.top_p, database.population_size." in said
    assert peer.inspect("run")["evaluations"] == 10
    peer("export", "run", "champion", "--library", "library")
    (provenance,) = (peer.folder / "library").glob("*/provenance.json")
    settings = json.loads(provenance.read_text())["run"]["settings"]["settings"]
    model = settings["models"][0]
    assert (settings["seed"], settings["islands"], settings["workers"], settings["wall_s"]) == (4, 1, 1, 30.0)
    assert (model["model"], model["base_url"], model["temperature"]) == (
        "some-model",
        "http://127.0.0.1:9/v1",
        0.5,
    )
    assert settings["instructions"] == "Pack tightly."


def test_a_changed_evaluator_ends_a_resumed_run_and_an_unchanged_copy_is_looked_at_all_the_same(peer):
    peer("run", *FILES, "--max-evaluations", 3, "--run-dir", "run")
    evaluator = peer.folder / FILES[1]
    evaluator.write_text(EVALUATOR.replace("Random(7)", "Random(8)"))
    assert "are not those" in peer("resume", "run", "--max-evaluations", 5, code=2)
    evaluator.write_text(EVALUATOR)
    assert peer("resume", "run", "--max-evaluations", 5)
    shutil.rmtree(peer.folder / "example")
    assert peer.inspect("run")["evaluations"] == 5
    assert "cannot be read" in peer("resume", "run", "--max-evaluations", 6, code=2)


def test_an_undeclared_package_ends_the_start_and_names_the_flag(peer):
    program = peer.folder / FILES[0]
    program.write_text("import scipy\n\n" + PROGRAM)
    said = peer("run", *FILES, "--max-evaluations", 3, code=2)
    assert said == "kvolve: The package scipy is not declared. Add --allow-package scipy to allow it.\n"
    assert not (peer.folder / "runs").exists()
    assert peer("run", *FILES, "--max-evaluations", 2, "--allow-package", "scipy")


def test_data_has_to_be_declared(peer):
    (peer.folder / "example" / "cases.txt").write_text("3")
    evaluator = peer.folder / FILES[1]
    evaluator.write_text(
        "import os\nHERE = os.path.dirname(os.path.abspath(__file__))\n"
        "CASES = int(open(os.path.join(HERE, 'cases.txt')).read())\n"
        + EVALUATOR.replace("range(3)", "range(CASES)")
    )
    assert "FileNotFoundError" in peer("run", *FILES, "--max-evaluations", 2, code=2)
    assert peer("run", *FILES, "--max-evaluations", 2, "--data", "example/cases.txt", "--run-dir", "run")
    (peer.folder / "example" / "cases.txt").write_text("2")
    assert "are not those" in peer("resume", "run", "--max-evaluations", 4, code=2)


def test_objects_that_cannot_cross_bring_program_and_evaluator_into_one_process(peer):
    program, evaluator = (peer.folder / name for name in FILES)
    program.write_text("class Policy:\n    def value(self):\n        return 0.25 + 0.5\n")
    evaluator.write_text(EVALUATOR.partition("    draw")[0] + "    return {'x': program.Policy().value()}\n")
    said = peer("run", *FILES, "--max-evaluations", 6, "--run-dir", "run")
    assert "share one sandboxed process (Policy is a type)" in said
    assert peer.inspect("run")["seeds"][0]["score"] == 0.75
    assert "share" not in peer("resume", "run", "--max-evaluations", 8)


def test_noisy_scores_are_noticed_before_the_run(peer):
    evaluator = peer.folder / FILES[1]
    evaluator.write_text(EVALUATOR.replace("random.Random(7)", "random"))
    said = peer("run", *FILES, "--max-evaluations", 4, "--run-dir", "run")
    assert "scores are noisy" in said
    peer.inspect("run")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "example/initial_program.py"), "there is no evaluator"),
        (("run", "nowhere.py", "example/evaluator.py"), "there is no program 'nowhere.py'"),
        (("run", "example/initial_program.py", "example/initial_program.py"), "has no function evaluate"),
        (("run", *FILES, "--config", "nowhere.yaml"), "cannot be read"),
        (("run", *FILES, "--data", "nowhere"), "There is no file or folder"),
        (("run", "token_selection", "example/evaluator.py"), "go together"),
    ],
)
def test_what_is_missing_is_said(peer, arguments, said):
    assert said in peer(*arguments, code=2)


@pytest.mark.skipif(EXAMPLES is None, reason="KVOLVE_EXAMPLES names no folder of public examples")
def test_public_examples_run_unchanged(kvolve):
    folders = sorted({path.parent for path in Path(str(EXAMPLES)).glob("*/evaluator.py")})
    assert folders
    for folder in folders:
        (initial,) = folder.glob("initial_program.py")
        began = time.monotonic()
        said = kvolve(
            "run", initial, folder / "evaluator.py", "--max-evaluations", 3, "--run-dir", folder.name
        )
        print(folder.name, f"{time.monotonic() - began:.1f} s", said.splitlines()[0])
        assert kvolve.inspect(folder.name)["seeds"][0]["score"] is not None
