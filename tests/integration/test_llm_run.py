"""Runs of the real command with a model behind a real server on loopback."""

import signal

import pytest

from tests.integration.test_determinism import completed, wait_for
from tests.llm.policies import policies
from tests.llm.server import Server, sends

ARGUMENTS = ("run", "token_selection", "--recording", "small", "--proposer", "llm", "--run-dir", "run")


@pytest.fixture
def server(kvolve):
    with Server() as server:
        server.usual = policies
        kvolve.environment |= {"KVOLVE_LLM_BASE_URL": server.url, "KVOLVE_LLM_MODEL": "loopback"}
        yield server


def test_a_model_proposes_and_its_calls_are_in_the_ledger(kvolve, server):
    kvolve(*ARGUMENTS, "--max-evaluations", 24)
    found = kvolve.inspect("run")
    assert found["evaluations"] == 24
    assert found["cost"]["tokens_in"] == 100 * len(server.requests) > 0
    assert {"rewrite", "diff", "crossover"} & found["operators"].keys()


def test_a_killed_run_asks_for_no_reply_twice(kvolve, server):
    process = kvolve.start(*ARGUMENTS, "--max-evaluations", 40)
    wait_for(kvolve.folder / "run", 20, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    under_way = 8  # whose replies the dead driver may not have received
    kvolve("resume", "run")
    found = kvolve.inspect("run")
    assert found["evaluations"] == 40
    paid = found["cost"]["tokens_in"] // 100
    assert paid <= len(server.requests) <= paid + under_way
    prompts = [str(request["messages"]) for request in server.requests]
    assert len(prompts) - len(set(prompts)) <= under_way


def test_a_key_that_is_refused_ends_the_run_at_once_and_loses_nothing(kvolve, server):
    kvolve.environment |= {"KVOLVE_LLM_API_KEY": "sk-wrong"}
    server.usual = sends(b'{"error": {"message": "bad key sk-wrong"}}', status=401)
    process = kvolve.start(*ARGUMENTS, "--max-evaluations", 24)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "refuses the key" in text
    assert "sk-wrong" not in text
    assert completed(kvolve.folder / "run") == 14  # the seeds and bounds, which ask nobody
    server.usual = policies
    kvolve("resume", "run")
    assert kvolve.inspect("run")["evaluations"] == 24


def test_a_dead_endpoint_ends_the_run_so_that_it_can_go_on(kvolve, server):
    preset = kvolve.folder / "mine.toml"
    preset.write_text(
        'problem = "token_selection"\nrecording = "small"\nproposer = "llm"\n[llm]\ngive_up_s = 2\n'
    )
    server.usual = sends(b"{}", status=500)
    text = kvolve("run", "mine.toml", "--max-evaluations", 24, "--run-dir", "run", code=1)
    assert "does not answer" in text
    server.usual = policies
    kvolve("resume", "run")
    assert kvolve.inspect("run")["evaluations"] == 24


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
