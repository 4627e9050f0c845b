"""Counter-based random numbers: each choice has its own stream, so no choice depends on how many came
before.
"""

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.random import Generator


def stream(seed: int, number: int, purpose: str) -> "Generator":
    """The random stream of one purpose of one proposal: the same on every machine and after every resume.

    Philox (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011), keyed by seed and
    purpose; the proposal's number is the high word of the counter, so that streams never overlap.
    """
    import numpy as np

    key = np.array([seed, zlib.crc32(purpose.encode())], dtype=np.uint64)
    counter = np.array([0, 0, 0, number], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
