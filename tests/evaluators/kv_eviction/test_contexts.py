"""Contexts of eviction: facts are where they are said to be, and splits have nothing in common."""

import re

import pytest

from evaluators.corpus import SPLITS, Text, shipped_text
from evaluators.gguf_tokenizer import gguf_tokenizer
from evaluators.kv_eviction.contexts import SHAPES, contexts_of
from evaluators.models import DEFAULT_MODEL, SECOND_MODEL, weights_path
from kvolve import KvolveError

LENGTHS = (320, 1024, 2048, 4096)
pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def tokenizer():
    return gguf_tokenizer(weights_path(DEFAULT_MODEL))


@pytest.fixture(scope="module")
def contexts(tokenizer):
    return {(split, length): contexts_of(split, tokenizer, length) for split in SPLITS for length in LENGTHS}


def asked(context):
    return [one for conversation in context.conversations for one in conversation]


def said(tokenizer, one):
    """The number that answers a question, as a text and in tokens."""
    number = re.findall(r"\d{5}", tokenizer.decode(one.answer))[-1]
    return number, tuple(tokenizer(f" {number}", add_special_tokens=False).input_ids)


def numbers(context, tokenizer):
    return set(re.findall(r"\b\d{5}\b", tokenizer.decode(context.tokens))) & {
        said(tokenizer, one)[0] for one in asked(context)
    }


def test_contexts_and_continuations_have_their_lengths(contexts):
    for (_, length), made in contexts.items():
        assert {len(context.tokens) for context in made} == {length}
        assert {len(context.continuation) for context in made} == {257}


def test_contexts_depend_on_nothing_else(tokenizer, contexts):
    assert contexts_of("search", tokenizer, 1024) == contexts["search", 1024]


def test_every_answer_stands_at_its_depth(tokenizer, contexts):
    for (_, length), made in contexts.items():
        for context in made:
            for one in asked(context):
                at = round(one.depth * length)
                number, tokens = said(tokenizer, one)
                assert context.tokens[at : at + len(tokens)] == tokens
                assert number in tokenizer.decode(context.tokens)


def test_the_facts_of_a_context_cover_its_quarters(contexts):
    for made in contexts.values():
        for context in made:
            assert sorted(int(4 * one.depth) for one in asked(context)) == [0, 1, 2, 3]


def test_the_pass_key_is_asked_for_first_and_second_and_stands_everywhere(contexts):
    for split in SPLITS:
        found = [
            (turn, int(4 * one.depth))
            for context in contexts[split, 2048]
            for conversation in context.conversations
            for turn, one in enumerate(conversation)
            if one.kind == "single"
        ]
        assert {turn for turn, _ in found} == {0, 1}
        assert len({quarter for _, quarter in found}) >= 3


def test_every_shape_occurs_in_each_split_and_the_first_four_differ(contexts):
    for made in contexts.values():
        assert sorted(context.shape for context in made) == sorted(SHAPES)
        assert len({context.name.split("/")[0] for context in made[:4]}) == 4


def test_splits_share_no_number_and_no_text(tokenizer, contexts):
    for length in LENGTHS:
        by_split = [
            set().union(*(numbers(context, tokenizer) for context in contexts[split, length]))
            for split in SPLITS
        ]
        assert not any(a & b for i, a in enumerate(by_split) for b in by_split[:i])
        runs = [
            {context.tokens[at : at + 40] for context in contexts[split, length] for at in range(length - 40)}
            for split in SPLITS
        ]
        assert not any(a & b for i, a in enumerate(runs) for b in runs[:i])


def by_shape(contexts, shape, length=2048):
    return next(context for context in contexts["search", length] if context.shape == shape)


def occurrences(tokens, part):
    return [at for at in range(len(tokens)) if tokens[at : at + len(part)] == part]


def test_a_recurring_passage_is_quoted_with_its_fact(tokenizer, contexts):
    context = by_shape(contexts, "recurring")
    (at,) = occurrences(context.tokens, context.continuation[4:60])
    assert at < 512
    first = next(one for one in asked(context) if one.depth < 0.25)
    assert said(tokenizer, first)[0] in tokenizer.decode(context.continuation[:70])


def test_a_repeated_passage_occurs_three_times_with_a_fact_in_the_middle_one(tokenizer, contexts):
    context = by_shape(contexts, "repeated")
    begin = occurrences(context.tokens, context.continuation[4:30])
    assert len(begin) == 3
    fact = next(round(one.depth * 2048) for one in asked(context) if 0.25 < one.depth < 0.5)
    assert begin[1] < fact < begin[1] + 160


def test_instructions_stand_at_the_ends_and_answers_begin_with_the_word(tokenizer, contexts):
    for shape, part in (("instruction_start", slice(0, 60)), ("instruction_end", slice(-60, None))):
        context = by_shape(contexts, shape)
        (word,) = re.findall(r"the code word is (\w+)\.", tokenizer.decode(context.tokens[part]))
        assert all(tokenizer.decode(one.answer).startswith(f" {word}.") for one in asked(context))


def test_facts_in_code_are_comments_of_its_language(tokenizer, contexts):
    for split in SPLITS:
        for context in contexts[split, 2048]:
            if context.name.startswith("code/"):
                mark = "//" if "_go" in context.name else "#"
                lines = tokenizer.decode(context.tokens).split("\n")
                lines = [line for line in lines if re.search(r"(key|of the \w+) is \d{5}", line)]
                assert len(lines) == 4
                assert all(line.strip().startswith(mark) for line in lines)


def test_a_topic_shift_goes_back_to_the_first_text(tokenizer, contexts):
    context = by_shape(contexts, "topic_shift")
    text = (context.name.split(" + ")[0]) + ".txt"
    assert tokenizer.decode(context.continuation[1:60]) in shipped_text(text).content
    assert tokenizer.decode(context.tokens[-60:]) not in shipped_text(text).content


def test_a_users_texts_are_shared_out_over_the_splits(tokenizer, contexts):
    texts = [
        Text(f"{name}.txt", "text", tokenizer.decode(by_shape(contexts, "plain", 4096).tokens[at : at + 900]))
        for at, name in ((0, "a"), (1000, "b"), (2000, "c"))
    ]
    made = [contexts_of(split, tokenizer, 320, 64, texts) for split in SPLITS]
    assert [{context.name[0] for context in of_split} for of_split in made] == [{"a"}, {"b"}, {"c"}]
    assert {len(context.tokens) for of_split in made for context in of_split} == {320}


def test_a_short_text_and_a_short_context_are_refused(tokenizer):
    with pytest.raises(KvolveError, match=r"The text short\.txt has"):
        contexts_of("search", tokenizer, 320, 64, [Text("short.txt", "text", "Too short. " * 20)])
    with pytest.raises(KvolveError, match="256 tokens or more"):
        contexts_of("search", tokenizer, 100)


def test_a_tokenizer_of_another_family_does_as_well():
    other = gguf_tokenizer(weights_path(SECOND_MODEL))
    for length in (320, 2048):
        for context in contexts_of("search", other, length):
            assert (len(context.tokens), len(context.continuation)) == (length, 257)
            for one in asked(context):
                _, tokens = said(other, one)
                at = round(one.depth * length)
                assert context.tokens[at : at + len(tokens)] == tokens
            assert sorted(int(4 * one.depth) for one in asked(context)) == [0, 1, 2, 3]
