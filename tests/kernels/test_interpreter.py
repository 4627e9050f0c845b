"""The claims about kernels, checked under Triton's interpreter: needs no GPU."""

import os
import subprocess
import sys
from pathlib import Path

CLAIMS = Path(__file__).with_name("test_sparse_decode.py")


def test_kernels_hold_their_claims_under_the_interpreter() -> None:
    # A process of its own: Triton reads the variable once, and the other tests need the compiler.
    checked = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", str(CLAIMS)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=CLAIMS.parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "skipped" not in checked.stdout, checked.stdout
