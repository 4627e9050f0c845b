"""Which packages a program inside may import: the standard library, numpy, and what the user declared."""

import importlib.abc
import importlib.machinery
import random
import re
import sys
import types
from collections.abc import Sequence
from importlib import metadata
from typing import Any

ALWAYS = frozenset({"numpy"})
OWN = frozenset({"evaluators", "msgpack"})  # what the shim itself is made of
STAND_IN = "openevolve"
FLAG = "--allow-package"


class UndeclaredError(ModuleNotFoundError):
    """An import of a package that is installed here, but was not declared."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"The package {package} is not declared. Add {FLAG} {package} to allow it.", name=package
        )


class Gate(importlib.abc.MetaPathFinder):
    """Refuses what is not allowed, and remembers what was refused. It keeps runs honest about what they
    need; what a program may do is decided by the sandbox."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self.allowed = allowed
        self.refused: list[str] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """None, which leaves the import to the other finders. Raises UndeclaredError."""
        root = name.partition(".")[0]
        if path is not None or root in self.allowed or root in sys.stdlib_module_names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(root)
        if spec is None or not _is_package(spec):
            return None  # a file beside the evaluator, or nothing at all
        self.refused.append(root)
        raise UndeclaredError(root)


def _is_package(spec: importlib.machinery.ModuleSpec) -> bool:
    places = [spec.origin or "", *(spec.submodule_search_locations or ())]
    return any(re.search(r"(site|dist)-packages", place) for place in places)


def allowed_packages(declared: str) -> frozenset[str]:
    """The import names that go with `declared` ones (separated by commas): they and all that they need."""
    wanted = {name for name in declared.split(",") if name}
    found = set(ALWAYS | OWN | wanted)
    if not wanted:
        return frozenset(found)
    names = metadata.packages_distributions()
    modules: dict[str, set[str]] = {}
    for module, distributions in names.items():
        for distribution in distributions:
            modules.setdefault(_normal(distribution), set()).add(module)
    open_ones = [_normal(d) for name in wanted for d in names.get(name, [name])]
    seen: set[str] = set()
    while open_ones:
        distribution = open_ones.pop()
        if distribution in seen:
            continue
        seen.add(distribution)
        found |= modules.get(distribution, set())
        open_ones += _requirements(distribution)
    return frozenset(found)


def _requirements(distribution: str) -> list[str]:
    try:
        stated = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    return [
        _normal(match[0])
        for line in stated
        if "extra ==" not in line and (match := re.match(r"[\w.-]+", line))
    ]


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def install_gate(allowed: frozenset[str]) -> Gate:
    """Puts the gate before all imports of this process. Packages that were loaded for others are no longer
    found loaded."""
    gate = Gate(allowed)
    sys.meta_path.insert(0, gate)
    for name in list(sys.modules):
        root = name.partition(".")[0]
        if root not in allowed and root not in sys.stdlib_module_names and root != "__main__":
            spec = getattr(sys.modules[name], "__spec__", None)
            if spec is not None and _is_package(spec):
                del sys.modules[name]
    return gate


def seed_generators(number: int) -> None:
    """Seeds the global random generators, so that a program that seeds none can be evaluated again."""
    random.seed(number)
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed(number % 2**32)


class EvaluationResult:
    """What some evaluators return: figures, and texts beside them. It stands in for a class of this name in
    packages that need not be installed."""

    def __init__(self, metrics: dict[str, Any], artifacts: dict[str, Any] | None = None) -> None:
        self.metrics = metrics
        self.artifacts = artifacts or {}

    @classmethod
    def from_dict(cls, metrics: dict[str, Any]) -> "EvaluationResult":
        return cls(metrics)

    def to_dict(self) -> dict[str, Any]:
        return self.metrics


def install_stand_in() -> None:
    """Makes `from openevolve.evaluation_result import EvaluationResult` work without that package."""
    package = types.ModuleType(STAND_IN, "A stand-in: it holds EvaluationResult only.")
    module = types.ModuleType(f"{STAND_IN}.evaluation_result")
    package.__path__ = []
    for place in (package, module):
        place.EvaluationResult = EvaluationResult  # type: ignore[attr-defined]
    package.evaluation_result = module  # type: ignore[attr-defined]
    sys.modules |= {package.__name__: package, module.__name__: module}
