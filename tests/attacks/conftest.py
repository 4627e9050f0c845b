import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "sandbox"))  # for bench and toy_problem

import bench


@pytest.fixture(scope="module")
def toy():
    """One worker for all attacks of a module: whatever one does, the next finds the pool at work."""
    os.environ["SECRET_API_KEY"] = "sk-canary"
    pool = bench.local()
    yield pool
    pool.close()
    del os.environ["SECRET_API_KEY"]
