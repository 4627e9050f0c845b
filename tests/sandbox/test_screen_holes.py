"""Ways around an allow-list that the screen has closed."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from sandbox.screen import screen


@dataclass(frozen=True, eq=False)
class Rules:
    modules: Mapping[str, frozenset[str]]
    attributes: frozenset[str] = frozenset({"shape"})
    builtins: frozenset[str] = frozenset({"len", "ValueError", "MemoryError", "range", "staticmethod"})
    provided: frozenset[str] = frozenset({"Index"})
    max_characters: int = 2_000
    max_nodes: int = 300
    max_depth: int = 20
    template: str | None = None


RULES = Rules(
    {
        "torch": frozenset({"sum"}),
        "torch.nn.functional": frozenset({"softmax"}),
        "math": frozenset({"pi"}),
    }
)


def constructs(source):
    return [refusal.construct for refusal in screen(source, RULES)]


CLEAN = {
    "a dotted module by its path": "import torch\ndef f(x):\n    return torch.nn.functional.softmax(x)",
    "a dotted module by an alias": "import torch.nn.functional as F\ndef f(x):\n    return F.softmax(x)",
    "a dotted module by from": "from torch.nn import functional as F\ndef f(x):\n    return F.softmax(x)",
    "a constant and a static method of a class": (
        "class A:\n    n = 1\n    @staticmethod\n    def f():\n        return 1\n"
        "def g():\n    return A.n + A.f()"
    ),
    "own attributes and methods on self": (
        "class A:\n    def __init__(self):\n        self.kept = 1\n"
        "    def f(self):\n        return self.f, self.kept"
    ),
    "small powers": "X = 2 ** 40 + 10 ** 9 - (1 << 62)",
    "a throwaway name": "def f():\n    return [1 for _ in range(3)]",
}

REFUSED = {
    "a module under another name": (
        "import torch\ndef f():\n    t = torch\n    return t.load",
        "torch as a value",
    ),
    "a module as an argument": ("import torch\ndef f(g):\n    return g(torch)", "torch as a value"),
    "a submodule as a value": ("import torch\ndef f():\n    return torch.nn", "torch.nn as a value"),
    "a submodule that is not listed": ("import torch\ndef f():\n    return torch.hub.load('x')", "torch.hub"),
    "one name for two modules": ("import torch as m\nimport math as m\nX = m.pi", "assigning to m"),
    "a foreign attribute by an own method of that name": (
        "class A:\n    def meter(self):\n        return 1\ndef f(cache):\n    return cache.meter",
        "the attribute meter",
    ),
    "a foreign attribute by an own attribute of that name": (
        "class A:\n    def f(self, cache):\n        self.meter = 1\n        return cache.meter",
        "the attribute meter",
    ),
    "a method that takes a foreign object for self": (
        "class A:\n    def f(self):\n        self.n = 1\ndef g(cache):\n    A.f(cache)",
        "the attribute f",
    ),
    "a function with an argument called self": ("def f(self):\n    self.n = 1", "assigning to self"),
    "a lambda with an argument called self": (
        "def f():\n    return lambda self: self.x",
        "assigning to self",
    ),
    "a static method with an argument called self": (
        "class A:\n    @staticmethod\n    def f(self):\n        self.n = 1",
        "assigning to self",
    ),
    "self rebound": ("class A:\n    def f(self, cache):\n        self = cache", "assigning to self"),
    "a class rebound": (
        "class A:\n    n = 1\ndef f(cache):\n    A = cache\n    return A.n",
        "assigning to A",
    ),
    "a refused builtin bound elsewhere": (
        "def f():\n    open = 1\ndef g():\n    return open('/etc/passwd')",
        "the name open",
    ),
    "a limit caught": (
        "def f():\n    try:\n        f()\n    except MemoryError:\n        f()",
        "this except",
    ),
    "a limit swallowed by finally": (
        "def f():\n    try:\n        f()\n    finally:\n        return 1",
        "finally",
    ),
    "an attribute in a format specification": (
        "def f(x):\n    return f'{1:{x.secret}}'",
        "the attribute secret",
    ),
    "an attribute in a comprehension's target": (
        "def f(x):\n    return [1 for x.y in range(3)]",
        "setting the attribute y",
    ),
    "an attribute in unusual letters": ("def f(x):\n    return x.ｓecret", "the attribute secret"),
    "a tower of powers": ("X = 9 ** 9 ** 9", "an integer of 2**63 or more"),
    "a product of powers": ("X = 2 ** 40 * 2 ** 40", "an integer of 2**63 or more"),
    "mutable state on a class": ("class A:\n    n = 1\ndef f():\n    A.n = 2", "setting the attribute n"),
    "a decorator on a function": ("@staticmethod\ndef f():\n    return 1", "a decorator"),
    "code in a default": ("def f(x=len('a')):\n    return g", "the name g"),
    "an annotation that reads a foreign name": ("def f(x: os):\n    return 1", "the name os"),
}


@pytest.mark.parametrize("name", CLEAN)
def test_clean_program_passes(name):
    assert screen(CLEAN[name], RULES) == []


@pytest.mark.parametrize("name", REFUSED)
def test_way_around_is_refused(name):
    source, construct = REFUSED[name]
    assert construct in constructs(source)


def test_refusal_names_what_is_close():
    (refusal,) = screen("import torch\ndef f(x):\n    return torch.sums(x)", RULES)
    assert "close to it: sum" in str(refusal)
