"""Replies that were thought about too long, and what tells them from good ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.llm import overthinking as rules
from evolve.llm.conversation import with_reasoning
from evolve.llm.errors import ReplyError
from evolve.llm.overthinking import Pattern, Thinking, examine
from evolve.llm.parse import read_program

PARENT = (
    "import math\n\n\ndef size(cache):\n    return len(cache)\n\n\nclass Policy:\n    def act(self, cache):\n"
    "        # the same as in the paper\n        return size(cache)\n"
)
BETTER = PARENT.replace("return size(cache)", "return math.sqrt(size(cache))")
OTHER = "class Policy:\n    def act(self, cache):\n        return 7\n"
BLOCK = "<<<<<<< SEARCH\n        return size(cache)\n=======\n        return 7\n>>>>>>> REPLACE\n"
EMPTY_BLOCK = "<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n"
PIECES = [BLOCK, OTHER, "```", "~~~", "# ...", "<think>", "</think>", "\0", "\ud800", "("]
WAIT = "Wait, would that be better? "
GOOD_REASONING = (
    "The tokens that are actually read are few, so the queries wait for nothing. Alternatively, I could keep "
    "more of them. Hmm, that costs memory, which is what the score punishes, and so a root it will be. "
) * 3


def fenced(source: str, language: str = "python") -> str:
    return f"```{language}\n{source}```\n"


def thinking(reply: str, tokens: int = 0, parent: str = PARENT) -> Thinking:
    """What a reply shows that is read as the proposer reads it."""
    try:
        source, error = read_program(reply, (parent,), frozenset({"Policy"})), ""
    except ReplyError as refused:
        source, error = refused.source, str(refused)
    return examine(reply, tokens, parent, source, error)


def patterns(reply: str, tokens: int = 0) -> set[Pattern]:
    return set(thinking(reply, tokens).patterns)


@pytest.mark.parametrize(
    "reply",
    [
        fenced(BETTER),
        BETTER,
        BLOCK,
        with_reasoning(f"A root grows slowly.\n{fenced(BETTER)}", GOOD_REASONING),
        with_reasoning(fenced(BETTER), f"{fenced(OTHER)}This scores 0.9. I have tested it."),
        f"The program loses most here:\n{fenced(PARENT[13:56])}so:\n{fenced(BETTER)}",
        f"{fenced(BETTER)}To try it:\n{fenced('Policy().act([])')}{fenced('python x.py', 'bash')}",
        f"{fenced(BETTER)}It would print:\n{fenced('class Policy: 1', 'text')}",
        f"{fenced(BETTER)}Once more:\n{fenced(BETTER)}",
        fenced(OTHER.replace("7", "cache[..., 0]")),
        fenced(OTHER + "\n\ndef stub(x) -> int: ...\n"),
        fenced(OTHER.replace("        return", "        # same as before\n        return")),
        fenced(OTHER.replace("        return", "        # ... then the rest by their score\n        return")),
    ],
)
def test_good_reply_shows_no_pattern(reply):
    assert patterns(reply) == set()


@pytest.mark.parametrize(
    "prose",
    [
        "Program A scores 0.83, which is an error of 0.17; it achieves an error of 0.01 on short contexts.",
        "I have not tested this, but it should score higher.",
        "After running the softmax, weights below 0.01 are dropped. After testing for zero, it divides.",
        "The order is already optimal for short queries, and cannot be improved by sorting.",
        "This gives a decay rate of 0.9 and a window of 0.25.",
    ],
)
def test_what_was_measured_or_is_only_hoped_for_is_no_claim(prose):
    assert patterns(f"{prose}\n{fenced(BETTER)}") == set()


@pytest.mark.parametrize("reply", [with_reasoning("", "A root?"), "<think>\nA root", "A root?</think>\n\n"])
def test_reasoning_without_an_answer_is_paralysis_alone(reply):
    assert patterns(reply) == {Pattern.PARALYSIS}


def test_reasoning_that_the_server_hides_is_reasoning():
    assert patterns("", tokens=10) == {Pattern.PARALYSIS}


@pytest.mark.parametrize(
    "hesitation", ["Wait,", "no, wait!", "hmmm", "Actually", "Let me rethink.", "hold on"]
)
def test_many_hesitations_are_paralysis(hesitation):
    assert patterns(with_reasoning(BETTER, f"{hesitation} " * rules.MANY_HESITATIONS)) == {Pattern.PARALYSIS}


def test_few_hesitations_are_none():
    assert patterns(with_reasoning(BETTER, WAIT * (rules.MANY_HESITATIONS - 1))) == set()


def test_hesitations_in_a_long_thought_are_none():
    words = "so " * (rules.MANY_HESITATIONS * 1000 // rules.DENSE_HESITATIONS)
    assert patterns(with_reasoning(BETTER, WAIT * rules.MANY_HESITATIONS + words)) == set()


def test_hesitations_in_the_answer_are_no_reasoning():
    assert patterns(WAIT * rules.MANY_HESITATIONS + "\n" + fenced(BETTER)) == set()


@pytest.mark.parametrize(
    ("tokens", "expected"), [(rules.LONG_THOUGHT - 1, set()), (rules.LONG_THOUGHT, {Pattern.PARALYSIS})]
)
def test_long_thought_for_two_lines_is_paralysis(tokens, expected):
    assert patterns(fenced(BETTER), tokens) == expected


def test_long_thought_for_many_lines_is_none():
    many = BETTER + "".join(f"x{number} = {number}\n" for number in range(20))
    assert patterns(fenced(many), 20 * rules.THOUGHT_PER_LINE) == set()


@pytest.mark.parametrize(
    "reply",
    [
        f"A draft:\n{fenced(OTHER)}Better:\n{fenced(BETTER)}",
        f"{fenced(BETTER)}Or:\n{fenced(BETTER.replace('sqrt', 'log1p'), '')}",
        f"{BLOCK}In full:\n{fenced(OTHER)}",
        EMPTY_BLOCK * (rules.MANY_BLOCKS + 1),
    ],
)
def test_several_actions_are_rogue(reply):
    assert patterns(reply) == {Pattern.ROGUE}


def test_as_many_blocks_as_an_idea_may_take_are_not_rogue():
    assert patterns(EMPTY_BLOCK * rules.MANY_BLOCKS) == set()


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I'm sorry, but I can't help with that.",
        f"Run this first:\n{fenced('python profile.py', 'bash')}",
        fenced(PARENT),
        fenced(PARENT.replace("\n\n\n", "\n")),
    ],
)
def test_answer_that_changes_nothing_is_disengaged(reply):
    assert patterns(reply) == {Pattern.DISENGAGEMENT}


def test_line_that_moves_is_a_change():
    assert thinking(fenced(f"{PARENT}x = 2\n"), 0, f"x = 2\n{PARENT}") == Thinking(0, 0)


@pytest.mark.parametrize(
    "placeholder",
    [
        "# ...",
        "# existing code unchanged",
        "# (the rest of Policy remains the same)",
        "# same as before",
        "# same as in the original\n    ...",
        "...  # rest of the class unchanged",
    ],
)
@pytest.mark.parametrize("source", [OTHER, OTHER + "    1 +"], ids=["usable", "unusable"])
def test_comment_in_place_of_code_is_disengaged(source, placeholder):
    assert patterns(fenced(f"{source}\n    {placeholder}\n")) == {Pattern.DISENGAGEMENT}


@pytest.mark.parametrize("placeholder", ["# ...", "# ... other methods", "# existing code unchanged"])
def test_comment_above_the_only_code_that_is_shown_is_disengaged(placeholder):
    assert patterns(fenced(OTHER.replace("    def", f"    {placeholder}\n    def"))) == {
        Pattern.DISENGAGEMENT
    }


def test_comment_that_the_parent_has_stands_for_nothing():
    parent = PARENT + "# same as before\n"
    assert thinking(fenced(parent.replace("len(", "2 * len(")), 0, parent).patterns == ()


@pytest.mark.parametrize(
    "claim",
    [
        "This scores 0.93.",
        "The new policy now scores about 0.93.",
        "This version achieves an error of 0.01.",
        "My combination lowers the miss\nratio to 31%.",
        "The improved policy reaches 0.95 accuracy.",
        "I've already benchmarked both.",
        "After running it, the error was gone.",
        "The program is already optimal.",
        "It’s already near-optimal.",
        "The policy cannot be improved further.",
    ],
)
def test_result_that_nobody_measured_is_disengaged(claim):
    assert patterns(f"{fenced(BETTER)}{claim}\n") == {Pattern.DISENGAGEMENT}


@pytest.mark.parametrize("program", [f"{BETTER}# This scores 0.9.\n", fenced(f"# I tested it.\n{BETTER}")])
def test_comment_in_a_program_claims_nothing(program):
    assert patterns(program) == set()


def test_a_reply_may_show_all_patterns():
    answer = f"I have tested both.\n{fenced(OTHER)}{fenced(BETTER)}"
    reply = with_reasoning(answer, WAIT * rules.MANY_HESITATIONS)
    assert thinking(reply).patterns == tuple(Pattern)


@pytest.mark.parametrize(
    ("reply", "changed"),
    [(fenced(BETTER), 2), (BLOCK, 2), (fenced(f"{PARENT}\n\nx = 1\n"), 1), (fenced(PARENT), 0), ("no", 0)],
)
def test_lines_that_only_one_program_has_are_changed(reply, changed):
    assert thinking(reply).changed == changed


def test_ratio_is_finite_without_a_change():
    assert (Thinking(30, 0).ratio, Thinking(30, 4).ratio) == (30, 7.5)


def test_order_is_by_patterns_then_ratio_then_tokens():
    things = [Thinking(2, 2), Thinking(4, 4), Thinking(4, 1), Thinking(0, 1, (Pattern.ROGUE,))]
    assert [thing.order for thing in things] == sorted(thing.order for thing in things)


@pytest.mark.parametrize(
    "piece", ["x", "x = 1\n", "this new ", "Wait, hmm ", "<think>", "</think>", "# same\n", "`", BLOCK, "I "]
)
def test_huge_reply_is_examined_in_no_time(piece):
    reply = piece * (200_000 // len(piece))
    assert examine(reply, 0, PARENT, reply, "").ratio == examine(reply, 0, PARENT, "", "?").ratio == 0


@given(
    st.text() | st.lists(st.sampled_from(PIECES)).map("\n".join),
    st.sampled_from([PARENT, ""]),
    st.sampled_from(["", "The reply is empty.", "?"]),
)
def test_nothing_but_patterns_comes_of_any_reply(reply, parent, error):
    seen = examine(reply, 10, parent, reply, error)
    assert set(seen.patterns) <= set(Pattern)
    assert seen.ratio <= 10
