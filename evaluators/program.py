"""A candidate becomes a program: its source is executed in a namespace that holds its language only."""

import builtins
import importlib
from collections.abc import Mapping
from typing import Any

from evaluators.problem import Language

OWN_PARTS = ("numpy._core.", "torch.storage")


def load(source: str, language: Language, provided: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The names that a candidate defines; `provided` names are there for it. Only called inside the sandbox.

    Raises whatever the candidate raises, and ImportError for a module that its language does not have.
    """

    def imported(
        name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        # C code of numpy and torch imports its own parts on first use (`array.mean()`, `torch.tensor(1)`), in
        # the name of who called it; a program that writes such an import has not passed the screen.
        if name not in language.modules and not name.startswith(OWN_PARTS):
            raise ImportError(f"Only {', '.join(sorted(language.modules))} can be imported, not {name}.")
        module = importlib.import_module(name)
        return module if fromlist or "." not in name else importlib.import_module(name.partition(".")[0])

    allowed: dict[str, Any] = {name: getattr(builtins, name) for name in language.builtins}
    allowed |= {"__build_class__": builtins.__build_class__, "__import__": imported}
    namespace: dict[str, Any] = {"__name__": "candidate", "__builtins__": allowed, **(provided or {})}
    exec(compile(source, "<candidate>", "exec"), namespace)  # inside the sandbox, after the screen
    return namespace
