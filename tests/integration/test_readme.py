"""Every command that the README shows works as it stands there, on smaller data."""

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest

from evolve.inbox import Letter
from evolve.llm.settings import LLM
from evolve.settings import make_settings
from tests.evaluators.test_record_model import WORDS, save_tiny_model
from tests.integration.conftest import FEW, SMALL
from tests.integration.test_inbox import somebody
from tests.llm.policies import POLICY, policies
from tests.llm.server import Server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("kvolve ")
]
PROGRAMS = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", README, re.DOTALL))
SMALLER = {"run": ["--max-evaluations", "8"], "resume": ["--max-evaluations", "9"]}


def test_the_readme_shows_every_command_of_this_version():
    shown = {shlex.split(command)[1] for command in COMMANDS}
    assert shown == {
        "run",
        "resume",
        "inspect",
        "compare",
        "problems",
        "record",
        "doctor",
        "export",
        "inbox",
        "audit",
        "verify",
    }


def test_both_make_commands_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile


@pytest.fixture
def prepared(kvolve):
    """A folder as the README's commands expect it: texts, a model, the presets."""
    folder = kvolve.folder
    save_tiny_model(folder / "FOLDER")
    for number, name in enumerate("abc"):
        (folder / f"{name}.txt").write_text(
            " ".join(WORDS[(i * (number + 2)) % len(WORDS)] for i in range(2_200))
        )
    (folder / "runs").mkdir()
    shutil.copy(ROOT / "runs" / "demo.toml", folder / "runs")
    for name, source in PROGRAMS.items():
        (folder / name).write_text(source)
    (folder / "cases").mkdir()
    (folder / "peer.yaml").write_text("random_seed: 1\n")
    return kvolve


def test_the_commands_of_the_readme_run_in_their_order(prepared):
    # what is read comes before what makes it: the README explains results first
    order = sorted(COMMANDS, key=lambda command: not command.startswith("kvolve run token_selection --max"))
    for command in order:
        arguments = shlex.split(command)[1:]
        if {"--database", "--proposer", "inbox"} & set(arguments):  # needs somebody who answers, see below
            continue
        if arguments[0] == "verify" and "--model" not in arguments:  # fetches weights, and takes minutes
            arguments += ["--model", "FOLDER", "--text", "b.txt", "--steps", "2"]
        if "CANDIDATE" in arguments:
            best = prepared.inspect("runs/token_selection-001")["best"]["hash"]
            arguments[arguments.index("CANDIDATE")] = best[:12]
        if arguments[0] == "run" and "--recording" not in arguments:
            arguments += ["--recording", "small"]
        if arguments[:2] == ["run", "token_selection"] and "--start-with" not in arguments:
            arguments += FEW
        if arguments[0] == "export":
            arguments += ["--library", "library"]
        if arguments == ["audit", "evaluator.py"]:  # its program could patch what it scores with
            assert "HOLE: module patching" in prepared(*arguments, code=1)
            continue
        assert prepared(*arguments, *SMALLER.get(arguments[0], []))


def test_the_commands_of_the_readme_for_a_language_model_run(kvolve):
    dry, first, second = (
        command for command in COMMANDS if "--proposer" in command and "--proposer inbox" not in command
    )
    with Server() as server:
        server.usual = policies
        kvolve.environment |= {"KVOLVE_LLM_BASE_URL": server.url, "KVOLVE_LLM_MODEL": "my-model"}
        assert "An estimate" in kvolve(*shlex.split(dry)[1:], *SMALL)
        assert server.requests == []
        assert kvolve(*shlex.split(first)[1:], *SMALL, "--max-evaluations", 11)
    assert kvolve(*shlex.split(second)[1:])
    assert kvolve.inspect("runs/asked")["hash"] == kvolve.inspect("runs/token_selection-001")["hash"]


def test_the_preset_of_the_readme_is_one():
    (preset,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    settings = make_settings(tomllib.loads(preset))
    assert [model.name for model in settings.models] == ["small-model", "large-model"]
    assert all(model.is_priced for model in settings.models)
    usual = LLM()
    assert settings.llm.model_copy(update={"k": usual.k}) == usual


def test_the_commands_of_the_readme_for_an_inbox_run(kvolve):
    run, *commands = (command for command in COMMANDS if "inbox" in command)
    (kvolve.folder / "reply.md").write_text(f"```python{POLICY.format(first=5)}```")

    def uses(letter: Letter) -> None:
        """The first prompt is shown and answered, the others are skipped."""
        for command in commands:
            first_only, others_only = " show " in command or " answer " in command, " skip " in command
            if others_only if len(seen) == 1 else first_only:
                continue
            said.append(kvolve(*shlex.split(command.replace(" N", f" {letter.number}"))[1:]))

    said: list[str] = []
    with somebody(kvolve, uses, "runs/byhand") as seen:
        assert kvolve(*shlex.split(run)[1:], *SMALL, "--max-evaluations", 10)
    assert "class Policy" in said[1]
    operators = kvolve.inspect("runs/byhand")["operators"]
    assert operators["skip"]["proposals"] == len(seen) - 1 > 0


def test_the_command_of_the_readme_for_postgresql_runs(kvolve, postgresql):
    (command,) = (command for command in COMMANDS if "--database" in command)
    arguments = shlex.split(command.replace("postgresql://USER@HOST/DATABASE", postgresql))[1:]
    assert kvolve(*arguments, *SMALL, "--max-evaluations", 1)
