"""Prompts: what is in them, what cannot be, and how long they get."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from database.records import Failure
from evaluators.problem import get_problem
from evolve.llm.lessons import read_lessons
from evolve.llm.prompt import LIMIT, TEMPLATES, Prompts, clipped, fenced, others_of
from evolve.proposer import Parent, Request
from kvolve import KvolveError

INTERFACE = get_problem("token_selection").interface
SOURCE = '"""A."""\n\n\n\nclass Policy:\n    x = "```"\n'
PARENT = Parent("a", SOURCE, 1.23456, "At 5% traffic: error 0.5.")
OTHER = Parent("b", "class Policy:\n    y = 2\n", 0.5, "At 5% traffic: error 0.7.")
OPERATORS = ("rewrite", "diff", "crossover", "plan", "repair", "simplify", "explain")
LESSONS = ("Sample the tail.", "Share the budget.")


FAILED = Failure("class Policy:\n    z = 3\n", "crash", "line 2: no z")


def request(*parents: Parent, failures: tuple[Failure, ...] = (FAILED,)) -> Request:
    return Request(3, parents or (PARENT, OTHER), failures)


@pytest.fixture(scope="module")
def prompts() -> Prompts:
    return Prompts(INTERFACE)


@pytest.mark.parametrize("operator", OPERATORS)
def test_prompt_begins_with_what_all_prompts_share(prompts, operator):
    # servers keep what they made of a beginning that they know
    assert prompts.render(operator, request()).startswith(INTERFACE.strip())


@pytest.mark.parametrize("operator", OPERATORS)
def test_prompt_shows_the_parent_with_score_and_feedback(prompts, operator):
    prompt = prompts.render(operator, request())
    assert SOURCE in prompt
    assert "It scores 1.2346" in prompt
    assert PARENT.feedback in prompt or operator == "simplify"  # which is not to change what it does


@pytest.mark.parametrize("operator", OPERATORS)
def test_lessons_are_in_every_prompt_that_asks_for_something_new(prompts, operator):
    prompt = prompts.render(operator, replace(request(), lessons=LESSONS))
    carried = "- Sample the tail.\n- Share the budget.\n" in prompt
    assert carried == (operator not in ("repair", "simplify"))
    assert "Lessons" not in prompts.render(operator, request())


def shown(operator: str, *others: str) -> str:
    parents = [Parent(name, f"class Policy: {name}\n", 1.0, "") for name in ("parent", *others)]
    return " ".join(parent.hash for parent in others_of(operator, request(*parents)))


def test_the_partner_is_crossed_with_and_the_inspirations_are_shown():
    partner, inspirations = "partner", ("far", "farther")
    assert shown("crossover", partner, *inspirations) == "partner"
    for operator in ("rewrite", "diff", "plan"):
        assert shown(operator, partner, *inspirations) == "far farther"
        assert shown(operator, partner) == "partner"
        assert shown(operator, partner, "far") == "partner far"
    assert shown("explain", partner, *inspirations) == "partner far farther"
    assert shown("repair", partner, *inspirations) == shown("simplify", partner) == ""
    assert shown("crossover", "parent", "far") == "far"


def test_form_of_a_diff_is_shown_with_a_line_of_the_program(prompts):
    # small models repeat a form that has words in the place of lines
    assert "<<<<<<< SEARCH\nclass Policy:\n=======" in prompts.render("diff", request())


def test_code_is_asked_for_with_its_plan(prompts):
    assert "Write the program of this plan:\n\nSample it.\n" in prompts.code("Sample it.")


@pytest.mark.parametrize("operator", ["rewrite", "diff", "crossover"])
def test_prompt_shows_the_others_once(prompts, operator):
    prompt = prompts.render(operator, request(PARENT, OTHER, PARENT, OTHER))
    assert prompt.count(OTHER.source) == 1
    assert prompt.count(SOURCE) == 1


def test_crossover_has_the_feedback_of_both(prompts):
    prompt = prompts.render("crossover", request())
    assert PARENT.feedback in prompt
    assert OTHER.feedback in prompt


def test_repair_shows_the_failure(prompts):
    prompt = prompts.render("repair", request())
    assert FAILED.source in prompt
    assert FAILED.message in prompt


def test_recent_failures_of_a_parent_are_named(prompts):
    assert "- crash: line 2: no z\n" in prompts.render("rewrite", request())
    assert "failed" not in prompts.render("rewrite", request(failures=()))


@given(
    operator=st.sampled_from(OPERATORS),
    feedback=st.text(min_size=2, max_size=9_000),
    said=st.tuples(st.text(max_size=3_000), st.text(min_size=1, max_size=400)),
    sources=st.lists(st.text(max_size=3_000), min_size=2, max_size=6, unique=True),
)
def test_prompt_is_bounded_beyond_its_sources(prompts, operator, feedback, said, sources):
    message, lesson = said
    first, *others = [Parent(source, source, -1e300, feedback) for source in sources]
    failed = Failure("class Policy:\n    z = 3\n", "nondeterministic", message)
    lessons = read_lessons("\n".join(f"- {number} {lesson}" for number in range(9)))
    asked = Request(3, (first, *others), (failed,) * 5, lessons)
    length = len(prompts.render(operator, asked))
    for candidate in (first, *others_of(operator, asked), failed):
        length -= len(candidate.source) if candidate is not failed or operator == "repair" else 0
    assert length <= LIMIT


def test_nothing_of_validation_or_holdout_can_get_into_a_prompt(prompts):
    # All that a prompt is made of: a problem's interface, and these fields of a request. Lessons are a
    # model's own words about such prompts.
    known = {"number", "parents", "failures", "lessons", "choice", "drafts"}
    assert {field.name for field in fields(Request)} <= known
    assert {field.name for field in fields(Parent)} <= {"hash", "source", "score", "feedback", "metrics"}
    assert vars(prompts).keys() == {"interface", "environment", "templates"}
    assert set(prompts.environment.globals) <= {"range", "dict", "lipsum", "cycler", "joiner", "namespace"}


def test_markers_are_explained_where_there_are_any(prompts):
    marked = replace(PARENT, source=f"# EVOLVE-BLOCK-START\n{SOURCE}# EVOLVE-BLOCK-END\n")
    assert "Keep these lines" in prompts.render("diff", request(marked))
    assert "EVOLVE-BLOCK" not in prompts.render("diff", request())


def test_fences_are_longer_than_those_in_a_program():
    assert fenced("x = '```'\n") == "````python\nx = '```'\n````"


def test_text_is_clipped_at_the_end_of_a_line():
    assert clipped("one line\nanother line\n", 15) == "one line ..."
    assert clipped("one line", 16) == "one line"


def test_template_in_the_run_directory_goes_first(tmp_path):
    (tmp_path / "rewrite.md.j2").write_text("Say {{ parent.score }} to {{ interface | length }}.")
    prompts = Prompts("four", tmp_path)
    assert prompts.render("rewrite", request()) == "Say 1.2346 to 4.\n"
    assert "SEARCH" in prompts.render("diff", request())


@pytest.mark.parametrize(
    "template",
    ["{% if %}", "{{ champion.holdout }}", "{{ parent.hash }}", "{{ interface.__class__.__mro__ }}"],
)
def test_template_that_asks_for_what_there_is_not_is_refused(tmp_path, template):
    (tmp_path / "rewrite.md.j2").write_text(template)
    with pytest.raises(
        KvolveError, match=r"rewrite\.md\.j2 cannot be used: .* may ask for interface, parent"
    ):
        Prompts(INTERFACE, tmp_path).render("rewrite", request())


def test_every_template_that_ships_is_used(prompts):
    partial = {path.name for path in TEMPLATES.iterdir() if path.name.startswith("_")}
    assert {path.name for path in TEMPLATES.iterdir()} - partial == {
        f"{name}.md.j2" for name in prompts.templates
    }
