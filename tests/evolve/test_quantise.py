"""Quantised indices: half the bytes each time, and the numbers that were there up to half a step."""

import re

import numpy as np
import pytest
import torch

from evaluators.problem import get_problem
from evaluators.token_selection import standalone
from evolve.builtin.quantise import can_be_quantised, quantise
from evolve.builtin.syntax import parse

SEEDS = {seed.name: seed.source for seed in get_problem("token_selection").seeds()}
KEYS = torch.randn(3, 192, 64, generator=torch.Generator().manual_seed(0))
KEPT = {"quest": "bounds", "squeezed_attention": "means"}


def quantised(source: str, times: int) -> str:
    module = parse(source)
    for number in range(times):
        changed = quantise(module, (), np.random.default_rng(number))
        assert changed is not None
        module = changed
    return module.code


def prefilled(source: str, keys: torch.Tensor, appended: int = 0):
    """A policy that has seen keys [G, N, D], the last `appended` of them one by one."""
    scope = {"Index": standalone.Index}
    exec(compile(source, "policy", "exec"), scope)
    policy = scope["Policy"]()
    policy.prefill(keys[:, : keys.shape[1] - appended])
    for token in range(keys.shape[1] - appended, keys.shape[1]):
        policy.append(keys[:, token : token + 1])
    return policy, scope


def read(source: str, kept: str, keys: torch.Tensor, appended: int = 0) -> torch.Tensor:
    """What a policy makes of its index, as it is written in its `select`."""
    policy, scope = prefilled(source, keys, appended)
    (written,) = set(re.findall(rf"\(?(?:unpacked\()?self\.{kept}\.read\(\)\)?(?: \* self\.\w+\))?", source))
    return eval(written, scope, {"self": policy}).float()


@pytest.mark.parametrize("name", KEPT)
def test_each_time_halves_the_bytes_until_there_is_nothing_left_to_halve(name):
    sizes = []
    for times in range(3):
        policy, _ = prefilled(quantised(SEEDS[name], times), KEYS)
        sizes.append(getattr(policy, KEPT[name]).read().nbytes)
    assert sizes[0] == 2 * sizes[1] == 4 * sizes[2]
    assert not can_be_quantised(parse(quantised(SEEDS[name], 2)))


@pytest.mark.parametrize(("times", "levels"), [(1, 127), (2, 7)])
@pytest.mark.parametrize("name", KEPT)
def test_what_is_read_is_what_was_kept_up_to_half_a_step(name, times, levels):
    exact = read(SEEDS[name], KEPT[name], KEYS)
    largest = exact.abs().amax(1, keepdim=True)
    error = (read(quantised(SEEDS[name], times), KEPT[name], KEYS) - exact).abs()
    assert (error <= largest / levels * 0.5 + 0.01).all()
    assert error.max() > 0


@pytest.mark.parametrize("times", [1, 2])
def test_appended_rows_are_quantised_too(times):
    exact = read(SEEDS["quest"], "bounds", KEYS, appended=32)
    error = (read(quantised(SEEDS["quest"], times), "bounds", KEYS, appended=32) - exact).abs()
    largest = exact[:, :-2].abs().amax(1, keepdim=True)
    inside = exact[:, -2:].abs() <= largest  # others are clamped
    assert exact.shape[1] == 12
    assert (error[:, -2:] <= largest / (127 if times == 1 else 7) * 0.5 + 0.01)[inside].all()


def test_functions_of_the_same_name_that_do_something_else_are_left_alone():
    source = quantised(SEEDS["squeezed_attention"], 1) + "\n\ndef packed(rows):\n    return rows\n"
    assert quantise(parse(source), (), np.random.default_rng(0)) is None
