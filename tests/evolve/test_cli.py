"""What holds for the command line as a whole."""

import subprocess
import sys

HEAVY = ("torch", "transformers", "ray", "sqlalchemy", "numpy", "openai", "triton")


def test_help_imports_nothing_heavy():
    program = (
        "import sys; sys.argv = ['kvolve', '--help']\n"
        "from evolve.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("run", "resume", "inspect", "compare", "problems", "record", "doctor", "export"):
        assert command in done.stdout


def test_the_driver_of_a_run_never_imports_torch():
    program = "import sys\nimport evolve.run, evolve.builtin, evolve.view\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
