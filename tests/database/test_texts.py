"""Texts are packed against what the run's texts have in common, and come back as they were."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from database.archive import Archive
from database.records import CallRecord
from database.texts import LARGEST_DICTIONARY, common_lines

TEXT = st.text(st.characters() | st.characters(categories=["Cs"]))


def fill(archive: Archive, propose, evaluate, count: int) -> list[str]:
    """Prompts that share an interface, as those of one run do; returns them."""
    words = random.Random(0)
    interface = "\n".join(f"rule {number}: {words.random()}" for number in range(150))
    prompts = []
    for number in range(count):
        prompts.append(f"{interface}\nYour score was {words.random()}.")
        archive.add_call(CallRecord(number, 0, "m", prompts[-1], f"reply {number}"))
        archive.add_proposal(propose(number))
        archive.add_evaluation(number, evaluate(1.0))
    return prompts


@given(st.lists(TEXT))
def test_dictionary_has_each_line_once_and_fits_the_window(texts: list[str]) -> None:
    lines = common_lines([*texts, *texts]).split(b"\n")
    assert len(lines) == len(set(lines))
    assert len(common_lines(texts * 9)) <= LARGEST_DICTIONARY


@given(TEXT)
def test_any_text_is_kept(text: str) -> None:
    from sqlalchemy import create_engine

    from database.texts import Texts

    with create_engine("sqlite://").connect() as connection:
        assert Texts().unpack(connection, Texts().pack(text)) == text


def test_shared_lines_are_stored_once(archive, url, propose, evaluate):
    prompts = fill(archive, propose, evaluate, 40)
    size = {number: len(archive._texts.pack(prompts[number])) for number in (0, 39)}
    assert size[39] < 200 < len(prompts[39])
    again = Archive.open(url, read_only=True)
    assert [again.calls(number)[0].prompt for number in range(40)] == prompts


def test_reopened_archive_packs_with_its_dictionary(archive, url, propose, evaluate):
    prompts = fill(archive, propose, evaluate, 40)
    archive.close()
    again = Archive.open(url)
    again.add_call(CallRecord(40, 0, "m", prompts[0], ""))
    assert again.calls(40)[0].prompt == prompts[0]
    assert len(again._texts.pack(prompts[0])) < 200


def test_dictionary_of_a_failed_transaction_is_not_used(archive, propose, evaluate, monkeypatch):
    fill(archive, propose, evaluate, 31)
    archive.add_proposal(propose(31))
    train = archive._texts.train

    def fail(*arguments: object) -> None:
        train(*arguments)
        raise RuntimeError("power cut")

    monkeypatch.setattr(archive._texts, "train", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        archive.add_evaluation(31, evaluate(1.0))
    monkeypatch.undo()
    archive.add_call(CallRecord(32, 0, "m", "what follows has to be readable", ""))
    assert archive.calls(32)[0].prompt == "what follows has to be readable"
