"""Long texts as they are stored: compressed against what the texts of the run have in common.

Sources, prompts and replies of one run repeat each other: the interface in every prompt, the parent in every
child. A dictionary holds such lines once for the archive. Packed texts are zlib streams (RFC 1950), whose
header names the dictionary by its checksum (FDICT), so that no other format is needed.
"""

import zlib
from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, insert, select

from database.schema import Candidate, Dictionary, Evaluation, ModelCall, Proposal

# zlib looks back 32 kB, over the dictionary and what has been packed of the text itself: a prompt needs room.
LARGEST_DICTIONARY = 24_000
LINE = range(4, 1000)  # bytes: a shorter one saves nothing, a longer one is no line of a program
LEVEL = 6
# Completed proposals after which a dictionary is made of the latest texts: searches move away from seeds.
FIRST_TRAINING = 32
TRAINING_INTERVAL = 256
LEARNT_FROM = 32  # proposals
MOST_DICTIONARIES = 64  # in memory, 32 kB each


def encode(text: str) -> bytes:
    """UTF-8. Half a surrogate pair, which a model may send as a JSON escape, is kept: no paid-for reply is
    lost to it.
    """
    return text.encode("utf-8", "surrogatepass")


def common_lines(texts: Iterable[str]) -> bytes:
    """A dictionary: the lines of `texts`, each once, those of the first text last and so in reach."""
    kept: set[bytes] = set()
    blocks: list[bytes] = []
    left = LARGEST_DICTIONARY
    for text in texts:
        block = []
        for line in map(encode, text.splitlines(keepends=True)):
            if len(line) in LINE and line not in kept and len(line) <= left:
                kept.add(line)
                block.append(line)
                left -= len(line)
        blocks.append(b"".join(block))
    return b"".join(reversed(blocks))


def is_training_due(completion: int) -> bool:
    """Whether a dictionary is to be made when this many proposals are completed."""
    return completion == FIRST_TRAINING or completion % TRAINING_INTERVAL == 0


class Texts:
    """Packs the texts of one archive with its newest dictionary, and unpacks them with the one they name."""

    def __init__(self) -> None:
        self._dictionaries: dict[int, bytes] = {}
        self._fresh = zlib.compressobj(LEVEL)

    def pack(self, text: str) -> bytes:
        """What is stored for a text."""
        # A copy of a compressor that has read its dictionary costs a tenth of reading it.
        compressor = self._fresh.copy()
        return compressor.compress(encode(text)) + compressor.flush()

    def unpack(self, connection: Connection, packed: bytes) -> str:
        """The text that was packed."""
        if packed[1] & 0x20:  # FDICT
            dictionary = self._dictionary(connection, int.from_bytes(packed[2:6], "big"))
            decompressor = zlib.decompressobj(zdict=dictionary)
            plain = decompressor.decompress(packed) + decompressor.flush()
        else:
            plain = zlib.decompress(packed)
        return plain.decode("utf-8", "surrogatepass")

    def load(self, connection: Connection) -> None:
        """Packs from now on with the newest dictionary of the archive."""
        newest = select(Dictionary.checksum).order_by(Dictionary.completion.desc()).limit(1)
        checksum = connection.scalar(newest)
        if checksum is None:
            self._fresh = zlib.compressobj(LEVEL)
        else:
            self._fresh = zlib.compressobj(LEVEL, zdict=self._dictionary(connection, checksum))

    def train(self, connection: Connection, completion: int) -> None:
        """Makes a dictionary of the latest texts and packs with it from now on."""
        content = common_lines(self._latest(connection))
        checksum = zlib.adler32(content)
        known = connection.scalar(select(Dictionary.checksum).where(Dictionary.checksum == checksum))
        if known is None and content:
            row = {"checksum": checksum, "completion": completion, "content": zlib.compress(content, LEVEL)}
            connection.execute(insert(Dictionary), row)
            self.load(connection)

    def _dictionary(self, connection: Connection, checksum: int) -> bytes:
        if checksum not in self._dictionaries:
            if len(self._dictionaries) == MOST_DICTIONARIES:
                self._dictionaries.clear()
            stored = select(Dictionary.content).where(Dictionary.checksum == checksum)
            self._dictionaries[checksum] = zlib.decompress(connection.scalars(stored).one())
        return self._dictionaries[checksum]

    def _latest(self, connection: Connection) -> Iterator[str]:
        """Texts of the latest proposals, newest first: what was said, the programs, what was found."""
        query = (
            select(ModelCall.prompt, ModelCall.reply, Candidate.source, Evaluation.feedback)
            .select_from(Proposal)
            .join(Candidate, Candidate.id == Proposal.candidate_id)
            .outerjoin(Evaluation, Evaluation.id == Proposal.evaluation_id)
            .outerjoin(ModelCall, ModelCall.number == Proposal.number)
            .order_by(Proposal.number.desc(), ModelCall.position)
        )
        for row in connection.execute(query.limit(LEARNT_FROM)):
            yield from (self.unpack(connection, packed) for packed in row if packed is not None)
