"""What a candidate's program may call, and what it may import."""

import subprocess
import sys

import pytest

from evaluators.program import load
from evaluators.token_selection.language import LANGUAGE


@pytest.mark.parametrize(
    "expression", ["torch.tensor([3.0])", "torch.tensor(2)", "torch.arange(3).float().mean()"]
)
def test_what_torch_imports_of_itself_on_first_use_is_there(expression):
    program = f"import torch\nX = {expression}\n"
    fresh = (  # what is imported once stays so
        "from evaluators.program import load\nfrom evaluators.token_selection.language import LANGUAGE\n"
        f"print(load({program!r}, LANGUAGE)['X'])"
    )
    done = subprocess.run([sys.executable, "-c", fresh], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tensor(")


def test_nothing_else_can_be_imported():
    with pytest.raises(ImportError, match=r"can be imported, not os"):
        load("import os\n", LANGUAGE)
