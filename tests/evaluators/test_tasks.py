"""Tasks whose answers follow from their contexts, at any length and from any seed."""

import re
from collections import Counter

import numpy as np
import pytest

from evaluators.models import load_model
from evaluators.tasks import KINDS, pose
from kvolve import KvolveError
from tests.evaluators.test_record_model import save_tiny_model

SIZES = (32, 100, 1000)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> object:
    return load_model(str(save_tiny_model(tmp_path_factory.mktemp("tiny"))))[1]


def solve(kind: str, context: str, question: str) -> str:
    """The answer as somebody would find it who reads the text."""
    match kind:
        case "pass key":
            (key,) = set(re.findall(r"pass key is (\d+)", context))
            return key
        case "needles":
            (thing,) = re.findall(r"What is the number of the (\w+)", question)
            (number,) = re.findall(rf"number of the {thing} is (\d+)", context)
            return number
        case "variables":
            (wanted,) = re.findall(r"Which variables hold (\d+)", question)
            holds: dict[str, str] = {}
            for name, source in re.findall(r"VAR (\w+) = (\w+)", context):
                holds[name] = holds.get(source, source)  # a name that was never assigned stays what it is
            return ", ".join(name for name, held in holds.items() if held == wanted)
    counted = Counter(re.findall(r"\w+", context)).most_common(4)
    assert counted[2][1] > counted[3][1]  # which are the three is no matter of order
    return ", ".join(word for word, _ in counted[:3])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_follows_from_the_context(kind, size):
    for seed in range(30):
        task = KINDS[kind](size, np.random.default_rng(seed))
        assert solve(kind, task.context, task.question) == task.answer.strip()


def test_needles_are_everywhere_in_the_context():
    places = []
    for seed in range(200):
        task = KINDS["pass key"](100, np.random.default_rng(seed))
        places.append(task.context.index("The pass key") / len(task.context))
    assert np.histogram(places, 4, (0, 1))[0].min() > 25


def test_a_needle_that_is_asked_for_is_one_of_several():
    task = KINDS["needles"](100, np.random.default_rng(0))
    assert len(re.findall(r"number of the \w+ is \d+", task.context)) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_context_fills_its_length_and_depends_on_its_seed_alone(kind, tokenizer):
    posed = pose(kind, tokenizer, 600, (3, 0))
    assert 580 < posed.prefill <= 600
    assert posed == pose(kind, tokenizer, 600, (3, 0))
    assert posed.kind == kind
    # the tokenizer knows no numbers and no made words: what it knows differs by the seed's places only
    task = KINDS[kind](100, np.random.default_rng((3, 0)))
    assert task != KINDS[kind](100, np.random.default_rng((3, 1)))
    answer = tokenizer(task.answer, add_special_tokens=False).input_ids
    assert posed.answer == len(answer)
    assert list(posed.tokens[-posed.answer :]) == answer


def test_a_length_without_room_is_refused(tokenizer):
    with pytest.raises(KvolveError, match="does not fit into 50 tokens"):
        pose("variables", tokenizer, 50, (0,))
