"""`kvolve verify`: a run's champion and seeds inside a real model, by the command that a user types."""

import json

import pytest

from tests.evaluators.test_record_model import save_tiny_model, text
from tests.integration.conftest import Command

SHORT = ("--prefill", "400", "--steps", "3")


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A run of two seeds, the bounds and one proposal: an index would be too dear in a model this small."""
    kvolve = Command(tmp_path_factory.mktemp("short"))
    begin = ("--recording", "small", "--start-with", "recent_window,streaming_llm")
    kvolve("run", "token_selection", *begin, "--max-evaluations", 6, "--run-dir", "run")
    return kvolve, kvolve.folder / "run"


@pytest.fixture
def verify(short, tmp_path):
    """Calls `kvolve verify` with a tiny model and a text of it."""
    kvolve, run = short
    model = save_tiny_model(tmp_path / "model")
    words = tmp_path / "words.txt"
    words.write_text(text("a", 1_000).content)

    def call(*arguments: object, code: int = 0) -> str:
        return kvolve("verify", *arguments, "--model", model, "--text", words, *SHORT, code=code)

    return call, run


def test_a_candidate_is_measured_beside_the_best_seed(verify, short):
    call, run = verify
    shown = short[0].inspect(run)
    (window,) = (seed["hash"] for seed in shown["seeds"] if seed["name"] == "recent_window")
    found = json.loads(call(run, window, "--contexts", 2, "--json"))
    assert list(found["policies"]) == [window[:12], "streaming_llm"]
    assert found["contexts"] == 2
    for policy in found["policies"].values():
        effects = policy["text"]
        assert [effect["budget"] for effect in effects] == [0.025, 0.05, 0.1, 0.2]
        for effect in effects:
            low, high = effect["kl"]["interval"]
            assert low <= effect["kl"]["value"] <= high
            assert 0 < effect["traffic"] <= 1
    table = call(run)
    champion, names = shown["champion"]["hash"], {seed["hash"]: seed["name"] for seed in shown["seeds"]}
    assert names.get(champion, champion[:12]) in table
    assert ".." not in table  # one context gives no interval


def test_one_seed_is_measured_by_its_name(verify):
    call, _ = verify
    found = json.loads(call("token_selection", "recent_window", "--json"))
    assert list(found["policies"]) == ["recent_window"]
    assert found["policies"]["recent_window"]["text"][0]["kl"]["interval"] is None


def test_tasks_are_told_beside_texts(verify):
    call, _ = verify
    arguments = ("token_selection", "recent_window", "--tasks", 1)
    tasks = json.loads(call(*arguments, "--json"))["policies"]["recent_window"]["tasks"]
    assert len(tasks) == 4 * 4  # kinds and budgets
    assert {task["kind"] for task in tasks} == {"pass key", "needles", "variables", "frequent words"}
    assert all(0 <= task["right"] <= 1 and 0 <= task["dense_right"] <= 1 for task in tasks)
    holdout = [json.loads(call(*arguments, "--split", "holdout", "--json"))["task_seed"] for _ in range(2)]
    assert holdout[0] != holdout[1]  # nobody knows it before


def test_what_cannot_be_measured_is_said(verify):
    call, run = verify
    for arguments, said in (
        (("token_selection", "alchemy"), "Known seeds: "),
        (("model_placement",), "those of token_selection do"),
        ((run, "ffff"), "ffff"),
        ((run, "--split", "test"), "Known splits: "),
        ((run, "--contexts", 9), "Give more texts"),
    ):
        assert said in call(*arguments, code=2)
