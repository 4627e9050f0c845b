"""Unequal budgets: `Policy.layer_shares` gives some layers more of the traffic than others."""

from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.syntax import constants, methods, names_in, policy, replaced, statement, with_constant
from evolve.builtin.vary import stepped

if TYPE_CHECKING:
    from numpy.random import Generator

POWERS = (-1.0, 1.5)  # of two, between which a share lies: a starved layer cannot read its index
# The forms hold for any number of layers. Attention of the first layer is often nearly flat.
FORMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("[{0}] + [1.0] * (layers - 1)", ("FIRST_LAYER_SHARES",)),
    ("([{0}] + [1.0] * (layers - 2) + [{1}])[:layers]", ("FIRST_LAYER_SHARES", "LAST_LAYER_SHARES")),
    ("[1.0 + {0} * {1}**layer for layer in range(layers)]", ("EARLY_LAYERS_BONUS", "DECAY")),
    ("[{0} ** (layer / layers) for layer in range(layers)]", ("DEPTH_SHARES",)),
)


def share_layers(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Gives the first, last or early layers another share of the budget, or changes the shares they have."""
    owner, method = policy(module), methods(module).get("layer_shares")
    if owner is None:
        return None
    if method is not None and random.random() < 0.7:
        used = [assign for name, assign in constants(module).items() if name in names_in(method)]
        if used:
            width = random.choice((0.3, 0.8))
            return replaced(module, {one.value: stepped(one.value, width, random, free=True) for one in used})
    form, wanted = FORMS[random.integers(len(FORMS))]
    changed, names = module, []
    for name in wanted:
        value = 0.5 if name == "DECAY" else float(2.0 ** random.uniform(*POWERS))
        changed, given = with_constant(changed, name, f"{value:.2f}")
        names.append(given)
    return with_layer_shares(changed, form.format(*names))


def with_layer_shares(module: cst.Module, shares: str) -> cst.Module:
    """The policy with a `layer_shares` that returns `shares`, an expression, in place of what it had."""
    owner, method = policy(module), methods(module).get("layer_shares")
    assert owner is not None
    new = statement(f"def layer_shares(self, layers):\n    return {shares}\n")
    if method is not None:
        return replaced(module, {method: new.with_changes(leading_lines=method.leading_lines)})
    body = [*owner.body.body, new.with_changes(leading_lines=[cst.EmptyLine(indent=False)])]
    return replaced(module, {owner.body: owner.body.with_changes(body=body)})
