import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # toy_problem is loaded by name, here and inside the wall

import bench


@pytest.fixture(scope="module")
def toy():
    """One worker, shared by a module: each test also shows that the one before did it no harm."""
    pool = bench.local()
    yield pool
    pool.close()
