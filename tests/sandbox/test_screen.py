"""The screen refuses what could do harm, and says what to write instead."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.problem import get_problem
from sandbox.screen import screen

PROBLEM = get_problem("token_selection")
RULES = PROBLEM.language
SEEDS = [seed for seed in PROBLEM.seeds() if seed.role != "bound"]

HEAD = "import torch\nimport math\n\n"
METHOD = HEAD + "class Policy:\n    def select(self, query, cache, budget, generator):\n        {}\n"


def method(*lines: str) -> str:
    return METHOD.format("\n        ".join(lines))


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_every_seed_passes(seed):
    assert screen(seed.source, RULES) == []


@pytest.mark.parametrize(
    "clean",
    [
        method("return [x * 2 for x in range(3)], (lambda y: y + 1)(2)"),
        method("self.kept = torch.zeros(2)", "self.kept += 1", "return self.kept"),
        method("for _ in range(3):", "    pass"),
        method(
            "try:",
            "    return 1 / budget",
            "except (ZeroDivisionError, ValueError) as error:",
            "    return 0",
        ),
        method("return f'{budget:.2f}'"),
        method("if (n := cache.length) > 3:", "    return n"),
        HEAD + "from math import sqrt\nSCALE = 1 / math.sqrt(64)\nRANGE = (1, 2.5, -3)\n",
        HEAD
        + "class Base:\n    limit = 3\n\n    def __init__(self):\n        self.n = 0\n\n"
        + "class Policy(Base):\n    pass\n",
        "import torch as t\n\n\ndef twice(x, factor=2.0):\n    return t.mul(x, factor)\n",
    ],
)
def test_plain_programs_pass(clean):
    assert screen(clean, RULES) == []


REFUSED = {
    "import os": ("import os", "only math and torch can be imported"),
    "from os import path": ("from os import", "only math and torch"),
    "from . import secrets": ("from . import", "only math and torch"),
    "import torch.utils": ("import torch.utils", "only math and torch"),
    "from torch import *": ("torch.*", "not among the names"),
    "from torch import load": ("torch.load", "not among the names"),
    "STATE = []": ("module level", "only numbers"),
    "STATE = {}": ("module level", "only numbers"),
    "TABLE = torch.zeros(9)": ("module level", "only numbers"),
    "for i in range(3):\n    pass": ("module level", "put code into methods"),
    "print(1)": ("module level", "put code into methods"),
    "class A:\n    kept = []": ("class body", "only numbers"),
    "class A(metaclass=type):\n    pass": ("metaclass", "plain class"),
    "class A(dict):\n    pass": ("foreign base", "this program only"),
    "def f(x=[]):\n    return x": ("a default that could be changed", "a tuple or None"),
    "def f(*, x={}):\n    return x": ("a default that could be changed", "a tuple or None"),
    "@property\ndef f():\n    return 1": ("a decorator", "@staticmethod"),
    "async def f():\n    pass": ("async def", "plain function"),
    "def f():\n    yield 1": ("yield", "return a list"),
    "def _f():\n    return 1": ("the function _f", "underscore"),
    "def f(_x):\n    return 1": ("the argument _x", "underscore"),
    "def __getattr__(name):\n    return 1": ("__getattr__", "underscore"),
    "def torch():\n    return 1": ("redefining torch", "another name"),
    "def len(x):\n    return 1": ("redefining len", "another name"),
    "Index = 3": ("assigning to Index", "another name"),
    "X = 9 ** 99999": ("the exponent 99999", "stay within"),
    "X = 1 << 99999": ("the exponent 99999", "stay within"),
    "X = 99999999999999999999": ("an integer of 2**63", "float"),
    "X = '" + "x" * 3000 + "'": ("a text of 3,000 characters", "2,000"),
}

REFUSED_IN_METHODS = {
    "return open('/etc/passwd')": ("the name open", "allowed builtins"),
    "return eval('1')": ("the name eval", "allowed builtins"),
    "return exec('1')": ("the name exec", "allowed builtins"),
    "return getattr(self, 'x')": ("the name getattr", "allowed builtins"),
    "return globals()": ("the name globals", "allowed builtins"),
    "return type(self)": ("the name type", "allowed builtins"),
    "return __import__('os')": ("__import__", "underscore"),
    "return self.__class__": ("__class__", "internal"),
    "return cache._keys": ("_keys", "internal"),
    "return ().__class__.__bases__": ("__bases__", "internal"),
    "return torch.load('x')": ("torch.load", "not among the names"),
    "return torch.ops": ("torch.ops", "not among the names"),
    "return torch.set_num_threads(4)": ("torch.set_num_threads", "not among the names"),
    "return math.__dict__": ("__dict__", "internal"),
    "return query.data_ptr()": ("data_ptr", "not among the methods"),
    "return query.numpy()": ("numpy", "not among the methods"),
    "return query.storage()": ("storage", "not among the methods"),
    "return '{0.x}'.format(query)": ("format", "not among the methods"),
    "cache.length = 3": ("setting the attribute length", "only attributes of self"),
    "Policy.kept = 3": ("setting the attribute kept", "only attributes of self"),
    "torch.mean = None": ("setting the attribute mean", "only attributes of self"),
    "cache.keys += 1": ("setting the attribute keys", "only attributes of self"),
    "self._hidden = 3": ("_hidden", "internal"),
    "torch = 3": ("assigning to torch", "another name"),
    "global x": ("global", "attributes of self"),
    "with torch.no_grad():\n            pass": ("with", "gradients are off"),
    "match query:\n            case 1:\n                pass": ("match", "if and elif"),
    "try:\n            pass\n        except:\n            pass": ("this except", "name the exceptions"),
    "try:\n            pass\n        except BaseException:\n            pass": (
        "this except",
        "name the exceptions",
    ),
    "try:\n            pass\n        except Exception:\n            pass": (
        "this except",
        "name the exceptions",
    ),
    "return f'{cache._keys}'": ("_keys", "internal"),
    "return query.sum(_dim=1)": ("the keyword _dim", "underscore"),
    "return unknown": ("the name unknown", "define it first"),
}


@pytest.mark.parametrize("code", REFUSED)
def test_harmful_constructs_at_module_level_are_refused(code):
    _expect(HEAD + code + "\n", *REFUSED[code])


@pytest.mark.parametrize("code", REFUSED_IN_METHODS)
def test_harmful_constructs_in_methods_are_refused(code):
    _expect(method(code), *REFUSED_IN_METHODS[code])


def _expect(source: str, construct: str, advice: str) -> None:
    ast.parse(source)
    texts = [str(refusal) for refusal in screen(source, RULES)]
    assert any(construct in text and advice in text for text in texts), texts


def test_a_refusal_names_the_line():
    assert str(screen(method("return 1", "return open"), RULES)[0]).startswith("line 7: the name open")


def test_syntax_errors_are_refusals():
    (refusal,) = screen("def f(:\n", RULES)
    assert refusal.construct == "syntax"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("# " + "x" * 30_000, "30,002 characters"),
        ("\n".join(f"a{i} = {i}" for i in range(1_600)), "syntax nodes"),
        ("x = " + "-" * 60 + "1", "levels"),
        ("x = " + "(" * 300 + "1" + ")" * 300, "parse"),
        ("x = 1\0", "Python says"),
    ],
)
def test_oversized_programs_are_refused(source, words):
    assert any(words in str(refusal) or "syntax" in str(refusal) for refusal in screen(source, RULES))


@given(st.text(max_size=200))
def test_any_text_is_screened_without_an_exception(text):
    assert isinstance(screen(text, RULES), list)
