"""Runs of the real command with a model behind a real server on loopback."""

import re
import signal

import pytest

from database.archive import Archive
from evolve.workspace import place_of
from tests.integration.conftest import BEGUN, NAMES, SMALL
from tests.integration.test_determinism import completed, wait_for
from tests.llm.policies import LESSON, policies
from tests.llm.server import Server, sends

ARGUMENTS = ("run", "token_selection", *SMALL, "--proposer", "llm", "--run-dir", "run")


@pytest.fixture
def server(kvolve):
    with Server() as server:
        server.usual = policies
        kvolve.environment |= {"KVOLVE_LLM_BASE_URL": server.url, "KVOLVE_LLM_MODEL": "loopback"}
        yield server


def test_a_model_proposes_and_its_calls_are_in_the_ledger(kvolve, server):
    said = kvolve(*ARGUMENTS, "--max-evaluations", 17)
    found = kvolve.inspect("run")
    assert found["evaluations"] == 17
    assert f"{len(server.requests)} calls of models" in said
    assert found["cost"]["tokens_in"] == 100 * len(server.requests) > 0
    assert {"rewrite", "diff", "crossover"} & found["operators"].keys()


def test_a_killed_run_asks_for_no_reply_twice(kvolve, server):
    process = kvolve.start(*ARGUMENTS, "--max-evaluations", 33)
    wait_for(kvolve.folder / "run", 13, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    under_way = 8  # whose replies the dead driver may not have received
    kvolve("resume", "run")
    found = kvolve.inspect("run")
    assert found["evaluations"] == 33
    paid = found["cost"]["tokens_in"] // 100
    assert paid <= len(server.requests) <= paid + under_way
    prompts = [str(request["messages"]) for request in server.requests]
    assert len(prompts) - len(set(prompts)) <= under_way


def test_a_key_that_is_refused_ends_the_run_at_once_and_loses_nothing(kvolve, server):
    kvolve.environment |= {"KVOLVE_LLM_API_KEY": "sk-wrong"}
    server.usual = sends(b'{"error": {"message": "bad key sk-wrong"}}', status=401)
    process = kvolve.start(*ARGUMENTS, "--max-evaluations", 17)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "refuses the key" in text
    assert "sk-wrong" not in text
    assert completed(kvolve.folder / "run") == BEGUN  # the seeds and bounds, which ask nobody
    server.usual = policies
    kvolve("resume", "run")
    assert kvolve.inspect("run")["evaluations"] == 17


def test_a_dead_endpoint_ends_the_run_so_that_it_can_go_on(kvolve, server):
    preset = kvolve.folder / "mine.toml"
    preset.write_text(
        f'problem = "token_selection"\nrecording = "small"\nstart_with = {NAMES.split(",")}\n'
        'proposer = "llm"\n[llm]\ngive_up_s = 2\n'
    )
    server.usual = sends(b"{}", status=500)
    text = kvolve("run", "mine.toml", "--max-evaluations", 17, "--run-dir", "run", code=1)
    assert "does not answer" in text
    server.usual = policies
    kvolve("resume", "run")
    assert kvolve.inspect("run")["evaluations"] == 17


def test_a_cost_limit_needs_a_price(kvolve, server):
    assert "price of loopback is not known" in kvolve(*ARGUMENTS, "--max-cost", 1, code=2)
    assert not (kvolve.folder / "run").exists()


@pytest.mark.parametrize(
    ("proposer", "said"),
    [("gpt", "builtin, llm and replay:RUN are allowed"), ("replay:nowhere", "no run at 'nowhere'")],
)
def test_an_unknown_proposer_is_said(kvolve, proposer, said):
    assert said in kvolve(*ARGUMENTS, "--proposer", proposer, code=2)


def test_a_model_is_asked_for_by_name(kvolve):
    assert "Set KVOLVE_LLM_MODEL" in kvolve(*ARGUMENTS, code=2)
    assert not (kvolve.folder / "run").exists()


def test_a_dry_run_shows_prompts_and_an_estimate_and_asks_and_leaves_nothing(kvolve, server):
    said = kvolve(*ARGUMENTS, "--max-evaluations", 100 + BEGUN, "--max-tokens", 900_000, "--dry-run")
    assert said.count("===== proposal") == 3
    assert said.count("# token_selection") == 3
    assert re.search(r"estimate for 100 proposals.*\n.*about [\d,]+ tokens in and [\d,]+ out", said)
    assert "Prices are not known; price_in and price_out under [[models]]" in said
    assert "max_tokens = 900000" in said
    assert server.requests == []
    assert list(kvolve.folder.iterdir()) == []


def test_a_dry_run_shows_what_the_run_asks_first(kvolve, server):
    said = kvolve(*ARGUMENTS, "--max-evaluations", 13, "--dry-run")
    kvolve(*ARGUMENTS, "--max-evaluations", 13)
    first = Archive.open(place_of(kvolve.folder / "run"), read_only=True).calls(BEGUN)[0].prompt
    assert first.strip() in said


def test_a_dry_run_is_of_a_model(kvolve):
    said = kvolve("run", "token_selection", "--recording", "small", "--dry-run", code=2)
    assert "the proposer is 'builtin'. Add --proposer llm" in said


def test_nothing_of_validation_or_holdout_is_in_any_prompt(kvolve, server):
    """The run goes on after its finals, when the archive has all these figures."""
    kvolve(*ARGUMENTS, "--max-evaluations", 13)
    kvolve("resume", "run", "--max-evaluations", 53)
    archive = Archive.open(place_of(kvolve.folder / "run"), read_only=True)
    secret = [
        evaluation
        for stage in ("validation", "holdout")
        for standing in archive.measured(stage)
        if (evaluation := archive.evaluation(standing.hash, stage)) is not None
    ]
    prompts = "".join(call.prompt for number in range(13, 53) for call in archive.calls(number))
    assert len(prompts) > 100_000
    assert len(secret) > 10
    shown = search_figures(archive)
    assert sum(f"{evaluation.score or 0:.5g}" not in shown for evaluation in secret) > 10
    for evaluation in secret:
        for line in evaluation.feedback.splitlines():
            assert line in shown or line not in prompts
        if evaluation.score is not None and (score := f"{evaluation.score:.5g}") not in shown:
            assert score not in prompts
    assert "validation" not in prompts
    assert "holdout" not in prompts


def search_figures(archive: Archive) -> str:
    """What prompts may show: figures of the search may happen to be those of another split."""
    found = [archive.evaluation(standing.hash, "search") for standing in archive.measured("search")]
    return "\n".join(f"{one.score or 0:.5g}\n{one.feedback}" for one in found if one)


def test_inspect_tells_what_models_and_operators_came_to(kvolve, server):
    kvolve(*ARGUMENTS, "--max-evaluations", 44)
    found = kvolve.inspect("run")
    models = found["models"]
    assert {one["model"] for one in models} == {"loopback"}
    assert sum(one["cost"]["calls"] for one in models) == found["cost"]["calls"] == len(server.requests)
    others = sum(found["operators"][name]["proposals"] for name in ("seed", "bound"))
    others += found["operators"].get("remeasure", {"proposals": 0})["proposals"]
    assert sum(one["proposals"] for one in models) == 44 - others
    assert all(one["gain_per_million_tokens"] >= 0 for one in models)
    said = kvolve("inspect", "run")
    assert "loopback" in said
    assert found["lessons"] == [LESSON]
    assert f"lesson  {LESSON}" in said
    assert "per 1M" in said
