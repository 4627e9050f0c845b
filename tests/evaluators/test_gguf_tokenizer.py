"""Tokenizers inside GGUF files: Gemma's, whose vocabulary transformers takes for another kind."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.gguf_tokenizer import CONTROL, USER_DEFINED, gguf_tokenizer

NORMAL, BYTE = 1, 6
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
FOUND_BEFORE = ["\n", "\n\n", "  ", "   "]
# the score of a token is its rank; `▁ab` is merged late, so that `ab` forms first, and then nothing takes it
MERGED = ["ab", "▁b", "ba", "▁a", "aba", "abab", "▁ab", "▁b▁b"]
LETTERS = ["▁", "a", "b"]


def gemma_file(path: Path, *, add_bos: bool = True) -> Path:
    """A GGUF file that holds a small vocabulary of Gemma's kind, and no weights."""
    from gguf import GGUFWriter

    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [CONTROL] * len(SPECIAL) + [USER_DEFINED] * len(FOUND_BEFORE) + [BYTE] * len(byte_tokens)
    ranked = [*MERGED, *LETTERS]
    writer = GGUFWriter(path, "gemma3")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*SPECIAL, *FOUND_BEFORE, *byte_tokens, *ranked])
    writer.add_token_scores([-1000.0] * len(kinds) + [-float(rank) for rank in range(len(ranked))])
    writer.add_token_types([*kinds, *[NORMAL] * len(ranked)])
    writer.add_add_bos_token(add_bos)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> object:
    return gguf_tokenizer(gemma_file(tmp_path_factory.mktemp("gemma") / "gemma.gguf"))


def slowly(text: str) -> list[str]:
    """The tokens of a text as SentencePiece finds them."""
    longest_first = sorted(FOUND_BEFORE, key=len, reverse=True)
    found: list[str] = []
    while text:
        token = next((token for token in longest_first if text.startswith(token)), None)
        if token:
            found.append(token)
        else:
            end = min((at for token in FOUND_BEFORE if (at := text.find(token)) >= 0), default=len(text))
            found += merged([*text[:end].replace(" ", "▁")])
        text = text[len(token) if token else end :]
    return found


def merged(pieces: list[str]) -> list[str]:
    while True:
        ranks = [
            (MERGED.index(pieces[at] + pieces[at + 1]), at)
            for at in range(len(pieces) - 1)
            if pieces[at] + pieces[at + 1] in MERGED
        ]
        if not ranks:
            return pieces
        _, at = min(ranks)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]


@given(text=st.text("ab \n", max_size=30))
@settings(max_examples=300, deadline=None)
def test_gemmas_words_are_merged_by_rank_between_runs_of_spaces_and_line_breaks(text, tokenizer):
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False).input_ids)
    assert tokens == slowly(text)
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_what_no_token_has_is_spelt_in_bytes(tokenizer):
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("é", add_special_tokens=False).input_ids)
    assert tokens == ["<0xC3>", "<0xA9>"]


@pytest.mark.parametrize("add_bos", [True, False])
def test_texts_begin_with_a_bos_token_where_the_file_says_so(add_bos, tmp_path):
    tokenizer = gguf_tokenizer(gemma_file(tmp_path / "gemma.gguf", add_bos=add_bos))
    assert tokenizer("a").input_ids[:-1] == ([tokenizer.bos_token_id] if add_bos else [])


def test_a_tokenizer_that_is_saved_is_the_same_when_it_is_loaded(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    said = "ab  abab\n\n\nba <bos>é"
    assert again(said).input_ids == tokenizer(said).input_ids
    assert again.bos_token_id == tokenizer.bos_token_id == SPECIAL.index("<bos>")
