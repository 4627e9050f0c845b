"""Policies inside a model: played behind the wall, charged as ever, and compared with the dense model."""

from pathlib import Path

import numpy as np
import pytest

from evaluators.models import SECOND_MODEL
from evaluators.problem import get_problem
from evaluators.tasks import KINDS
from evaluators.token_selection.effect import likened, open_judge
from kvolve import KvolveError
from sandbox.task import Limits, TaskRef
from sandbox.worker import Worker
from tests.evaluators.test_models import require_weights
from tests.evaluators.test_record_model import save_tiny_model, text

PROBLEM = get_problem("token_selection")
SEEDS = {seed.name: seed.source for seed in PROBLEM.seeds()}
PREFILL, STEPS = 400, 4
BUDGETS = (0.2, 0.5, 1.0)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("model")
    save_tiny_model(folder)
    words = folder / "words.txt"
    words.write_text(text("a", 2 * (PREFILL + STEPS + 1)).content)
    return {
        "model": str(folder),
        "depths": "0,0.6",
        "prefill": str(PREFILL),
        "steps": str(STEPS),
        "texts": str(words),
        "budgets": ",".join(map(str, BUDGETS)),
    }


@pytest.fixture(scope="module")
def worker(arguments):
    worker = Worker(TaskRef(PROBLEM.actor, PROBLEM.effect, arguments, ("validation", "tasks")), Limits())
    yield worker
    worker.close()


@pytest.mark.parametrize("name", [name for name in SEEDS if "def calibrate" in SEEDS[name]])
def test_what_was_learnt_for_another_model_is_not_used(name, worker):
    outcome = worker.run(SEEDS[name], "validation")
    assert outcome.failure == "interface"
    assert "Nothing has been learnt for this model" in outcome.message


@pytest.mark.parametrize("name", [name for name in SEEDS if "def calibrate" not in SEEDS[name]])
def test_a_policy_that_reads_everything_changes_nothing_and_others_keep_their_budget(name, worker):
    outcome = worker.run(SEEDS[name], "validation")
    assert outcome.failure is None, outcome.message
    found = outcome.value
    kl = np.array(found["kl"])
    assert kl.shape == (len(BUDGETS), STEPS)
    assert kl[-1].max() < 1e-5  # of rounding the cache to fp16
    assert found["same_first"][-1] == [1.0] * STEPS
    assert np.allclose(found["nll"][-1], found["dense_nll"], atol=1e-2)
    # in so short a context a whole page may be more than is left
    assert (np.array(found["traffic"]) <= np.array(BUDGETS) * 1.04).all()


@pytest.mark.weights
def test_a_policy_that_reads_everything_changes_nothing_in_the_second_model(arguments):
    """Most of its layers have a window, which is full here, and go on beside those that a policy has."""
    require_weights(SECOND_MODEL)
    real = arguments | {"model": SECOND_MODEL, "prefill": "700", "texts": "", "budgets": "0.1,1.0"}
    worker = Worker(TaskRef(PROBLEM.actor, PROBLEM.effect, real, ("validation",)), Limits(120, 120))
    try:
        outcome = worker.run(SEEDS["streaming_llm"], "validation")
    finally:
        worker.close()
    assert outcome.failure is None, outcome.message
    part, whole = np.array(outcome.value["kl"])
    assert whole.max() < 1e-5 < part.max()
    assert outcome.value["same_first"][1] == [1.0] * STEPS
    assert outcome.value["traffic"][0] <= 0.1 < outcome.value["traffic"][1]


def test_a_window_reads_more_at_a_larger_budget_and_comes_nearer(worker):
    found = worker.run(SEEDS["recent_window"], "validation").value
    kl, traffic = np.mean(found["kl"], 1), found["traffic"]
    assert traffic[0] < traffic[1] < traffic[2] == 1
    assert kl[0] > kl[1] > kl[2]


def test_contexts_differ_and_too_many_are_refused(worker):
    first, second = (worker.run(SEEDS["recent_window"], "validation", number).value for number in (0, 1))
    assert first["dense_nll"] != second["dense_nll"]
    with pytest.raises(KvolveError, match="2 contexts of 405 tokens"):
        worker.run(SEEDS["recent_window"], "validation", 2)


def test_tasks_of_all_kinds_are_answered_as_the_dense_model_answers_them(worker):
    answers = []
    for number in range(len(KINDS)):
        found = worker.run(SEEDS["recent_window"], "tasks", number).value
        assert found["right"][-1] == found["dense_right"]
        assert np.allclose(found["nll"][-1], found["dense_nll"], atol=1e-2)
        assert 0 < found["answer"] < len(found["dense_nll"])
        answers.append(found["answer"])
    assert len(set(answers)) > 1


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ("return 1", "interface"),
        ("raise ValueError('no')", "crash"),
        (
            "indices = torch.zeros(cache.heads, 2).int()\n        return indices, indices + 1.0",
            "invalid_output",
        ),
    ],
)
def test_what_fails_fails_with_its_label_and_the_next_one_runs(body, failure, worker):
    method = f"def select(self, query, cache, budget, generator):\n        {body}"
    source = f"import torch\n\nclass Policy:\n    {method}\n"
    assert worker.run(source, "validation").failure == failure
    assert worker.run(SEEDS["recent_window"], "validation").failure is None


def test_state_is_kept_from_step_to_step(worker):
    source = """
import torch


class Policy:
    def prefill(self, keys):
        self.seen = keys.shape[1]

    def append(self, keys):
        self.seen += 1

    def select(self, query, cache, budget, generator):
        if self.seen != cache.length:
            raise ValueError("a token was lost")
        return torch.arange(cache.length).expand(cache.heads, -1), torch.ones(cache.heads, cache.length)
"""
    assert worker.run(source, "validation").failure is None


def test_policies_are_told_the_layers_that_they_were_made_for(worker):
    source = """
import torch


class Policy:
    def layer_shares(self, layers):
        return [1.0, 3.0][:layers]

    def select(self, query, cache, budget, generator):
        tenths = round(budget * 70 / 3)  # of three layers the first has share 1 and the others 3 each
        if cache.layers != 2 or (budget < 1 and tenths not in ((2, 5), (6, 15))[cache.layer]):
            raise ValueError(f"{cache.layer} of {cache.layers}, {budget}")
        kept = cache.affordable(budget)
        tokens = torch.arange(cache.length - kept, cache.length).expand(cache.heads, -1)
        return tokens, torch.ones(tokens.shape)
"""
    outcome = worker.run(source, "validation")
    assert outcome.failure is None, outcome.message


def test_an_examination_that_is_given_up_leaves_no_thread(arguments):
    import threading

    from evaluators.token_selection.actor import open_actor

    before = threading.active_count()
    examination = open_judge(**arguments).examine("validation", SEEDS["recent_window"])
    assert examination.another_process()

    class Enough(Exception):  # noqa: N818
        pass

    asked = []

    def ask(question, told):
        asked.append(question)
        if len(asked) > 3:
            raise Enough
        return examination.answer(question, told)

    with pytest.raises(Enough):
        open_actor().act(SEEDS["recent_window"], ask)
    assert threading.active_count() > before
    examination.phases.close()
    assert threading.active_count() == before


def test_a_layer_is_like_the_nearest_recorded_one_but_the_first_like_none_but_itself():
    recorded = [layer / 30 for layer in (0, 9, 18, 27)]
    like = likened([layer / 30 for layer in range(30)], recorded)
    assert like[:3] == (0, 1, 1)
    assert [like.index(place) for place in range(4)] == [0, 1, 14, 23]
    assert likened([5 / 18, 11 / 18, 17 / 18], recorded) == (1, 2, 3)
    assert likened([0.0, 0.5], [0.0]) == (0, 0)


def test_several_texts_are_named_by_lines(arguments, tmp_path: Path):
    second = tmp_path / "second.txt"
    second.write_text(text("b", PREFILL + STEPS + 1).content)
    judge = open_judge(**arguments | {"texts": f"{arguments['texts']}\n{second}"})
    assert judge.examine("validation", "", 2).text.tokens != judge.examine("validation", "", 0).text.tokens
