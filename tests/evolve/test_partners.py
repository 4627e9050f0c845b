"""Second parents that an operator looks for itself: who values an answer, and to whom to hand over."""

import numpy as np
import pytest

from database.archive import Archive
from database.records import EvaluationRecord, ProposalRecord
from evaluators.problem import Problem, get_problem
from evolve.builtin import BuiltinProposer
from evolve.builtin.drafting import Drafting
from evolve.builtin.operators import OPERATORS
from evolve.proposer import Request, parent_of
from evolve.run import create_archive
from evolve.settings import make_settings
from evolve.streams import stream
from tests.evolve.test_hand_over import told


def archive_of(
    problem: Problem, feedback: dict[str, str], folder, apart: bool = False
) -> tuple[Archive, dict[str, str]]:
    """An archive in which the seeds with a feedback have ended, and their hashes by name.

    The later one is the better. They are all in one cell, so that the last is the only elite, or lie apart.
    """
    settings = make_settings({"problem": problem.name, "islands": 1})
    archive = create_archive(settings, problem, problem.inputs(None), folder)
    seeds = [seed for seed in problem.seeds() if seed.name in feedback]
    proposals = [ProposalRecord(n, 0, "seed", (), seed.source, seed.name) for n, seed in enumerate(seeds)]
    hashes = archive.add_proposals(proposals)
    for number, seed in enumerate(seeds):
        said, score = feedback[seed.name], list(feedback).index(seed.name)
        share = (score + 0.5) / len(feedback) if apart else 0.5
        place = {d.name: d.low + (d.high - d.low) * share for d in problem.descriptors}
        evaluation = EvaluationRecord("search", "split", score, feedback=said, descriptors=place)
        archive.add_evaluation(number, evaluation)
    return archive, {seed.name: hash for seed, hash in zip(seeds, hashes, strict=True)}


def prepared(archive: Archive, operator: str, parents: list[str], number: int = 0) -> tuple[str, ...]:
    """The parents of a proposal for which no other operator may be drawn."""
    only = tuple(one for one in OPERATORS if one.name == operator)
    proposer = BuiltinProposer(archive, Drafting(lambda source: True, only))
    request = Request(number, tuple(parent_of(archive, hash) for hash in parents))
    chosen = proposer.prepare(request, len(parents), stream(0, number, "choice"))
    return tuple(parent.hash for parent in chosen.parents) if chosen.choice == operator else ()


@pytest.fixture
def placing(tmp_path):
    """The seeds of model_placement in one cell; the start, which alone can value a placement, lost it."""
    problem = get_problem("model_placement")
    archive, hashes = archive_of(problem, {"start": "", "largest_first": "", "prism": ""}, tmp_path)
    yield archive, hashes
    archive.close()


def test_what_values_an_answer_comes_from_a_seed_that_is_no_elite(placing):
    archive, hashes = placing
    assert hashes["start"] not in {elite.hash for elite in archive.elites()}
    found = {
        prepared(archive, "improve", [hashes["prism"], hashes["largest_first"]], number)
        for number in range(12)
    }
    assert found - {()} == {(hashes["prism"], hashes["start"])}


def test_who_can_value_its_answers_keeps_its_second_parent(placing):
    archive, hashes = placing
    asked = [hashes["start"], hashes["largest_first"]]
    found = {prepared(archive, "improve", asked, number) for number in range(12)}
    assert found - {()} == {tuple(asked)}


def test_one_hands_over_to_the_elite_that_errs_less_somewhere(tmp_path):
    good, bad = np.full((4, 4), 0.3), np.full((4, 4), 0.5)
    good[:, 0] = 0.8
    bad[:, 0] = 0.1
    archive, hashes = archive_of(
        get_problem("token_selection"), {"quest": told(good), "simhash": told(bad)}, tmp_path
    )
    chosen = prepared(archive, "hand_over", [hashes["quest"]])
    archive.close()
    assert chosen == (hashes["quest"], hashes["simhash"])


@pytest.fixture
def three_apart(tmp_path):
    """Three elites with the scores 0, 1 and 2. What the first is good at, the others are not: the third could
    promise 2.6 with its help, the second less than the third has.
    """
    first, second, third = np.full((4, 4), 0.8), np.full((4, 4), 0.7), np.full((4, 4), 0.05)
    first[:, 0] = 0.01
    third[:, 0] = 0.4
    feedback = {"quest": told(first), "simhash": told(second), "sparq": told(third)}
    archive, hashes = archive_of(get_problem("token_selection"), feedback, tmp_path, apart=True)
    yield archive, hashes
    archive.close()


def chosen_by(archive: Archive, given: str, **how: bool) -> list[tuple[str, tuple[str, ...]]]:
    """Operator and parents of 200 proposals that are given the same parents."""
    proposer = BuiltinProposer(archive, Drafting(lambda source: True), **how)
    request = Request(0, (parent_of(archive, given), parent_of(archive, given)))
    found = [proposer.prepare(request, 3, stream(0, number, "choice")) for number in range(200)]
    return [(one.choice, tuple(parent.hash for parent in one.parents)) for one in found]


def test_a_pair_that_promises_a_new_best_is_taken_from_anywhere(three_apart):
    archive, hashes = three_apart
    assert len(archive.elites()) == 3
    chosen = chosen_by(archive, hashes["simhash"], surveys=True)
    surveyed = [(choice, parents) for choice, parents in chosen if parents[0] != hashes["simhash"]]
    assert set(surveyed) == {("hand_over", (hashes["sparq"], hashes["quest"]))}
    assert 20 < len(surveyed) < 65  # one in five


def test_a_strategy_that_chooses_its_parents_itself_keeps_them(three_apart):
    archive, hashes = three_apart
    assert {parents[0] for _, parents in chosen_by(archive, hashes["simhash"])} == {hashes["simhash"]}


def test_no_pair_is_taken_where_none_promises_a_new_best(tmp_path):
    alike = told(np.full((4, 4), 0.5))
    feedback = {"quest": alike, "simhash": alike}
    archive, hashes = archive_of(get_problem("token_selection"), feedback, tmp_path, apart=True)
    chosen = chosen_by(archive, hashes["quest"], surveys=True)
    archive.close()
    assert {parents[0] for _, parents in chosen} == {hashes["quest"]}


def test_shares_that_promise_a_new_best_are_taken_as_well(tmp_path):
    falls = np.stack([[0.8, 0.4, 0.2, 0.1], [0.8, 0.75, 0.7, 0.65]], 1)
    archive, hashes = archive_of(get_problem("token_selection"), {"quest": told(falls)}, tmp_path)
    chosen = chosen_by(archive, hashes["quest"], surveys=True)
    archive.close()
    surveyed = [choice for choice, parents in chosen if len(parents) == 1 and not choice.startswith("tune")]
    assert set(surveyed) == {"allot"}
    assert 20 < len(surveyed) < 65
