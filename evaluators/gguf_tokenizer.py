"""The tokenizer inside a GGUF file: as transformers 5.2 reads it, except where that is wrong.

It does not read whether texts begin with a BOS token. And it takes Gemma's vocabulary for one of a unigram
model, while the scores in it are ranks of merges, so that most words fall to pieces: "▁w or ld".
"""

from pathlib import Path
from typing import Any

CONTROL, USER_DEFINED = 3, 4  # of llama.cpp's types of tokens


def gguf_tokenizer(path: Path) -> Any:
    """The tokenizer of a GGUF file.

    Raises ValueError or KeyError for a file that transformers cannot read.
    """
    from gguf import GGUFReader
    from transformers import AutoTokenizer

    reader = GGUFReader(str(path))

    def read(name: str) -> Any:
        field = reader.get_field(name)
        return None if field is None else field.contents()

    bos = read("tokenizer.ggml.add_bos_token")
    options = {} if bos is None else {"add_bos_token": bool(bos)}
    if str(read("general.architecture")).startswith("gemma"):
        parts = ("tokens", "scores", "token_type")
        tokens, scores, kinds = (read(f"tokenizer.ggml.{part}") for part in parts)
        if tokens and scores and kinds:
            return _gemma(tokens, scores, kinds, options)
    return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, **options)


def _gemma(tokens: list[str], scores: list[float], kinds: list[int], options: dict[str, bool]) -> Any:
    """Byte pair encoding: of two neighbours whose union is a token, those with the best union are merged.

    Line breaks, runs of spaces and tags are tokens that are found before that.
    """
    from transformers import AddedToken, GemmaTokenizer
    from transformers.convert_slow_tokenizer import generate_merges

    vocabulary = {token: place for place, token in enumerate(tokens)}
    found_before = [
        AddedToken(token, normalized=False, special=kind == CONTROL)
        for token, kind in zip(tokens, kinds, strict=True)
        if kind in (CONTROL, USER_DEFINED)
    ]
    merges = generate_merges(
        vocabulary, dict(zip(tokens, scores, strict=True)), {token.content for token in found_before}
    )
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=merges, **options)
    tokenizer.add_tokens(found_before)
    return tokenizer
