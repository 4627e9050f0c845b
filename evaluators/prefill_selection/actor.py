"""The half of `prefill_selection` inside the sandbox: a policy decides for one query block after another."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.prefill_selection.block import Block
from evaluators.prefill_selection.language import LANGUAGE
from evaluators.program import load

if TYPE_CHECKING:
    from evaluators.prefill_selection.block import Ask

Arrays = Mapping[str, np.ndarray]


def open_actor() -> "Actor":
    torch.set_num_threads(1)
    return Actor()


class Actor:
    """Runs candidates. It has no data: what it knows of queries and keys are answers of the judge."""

    def act(self, source: str, ask: "Ask") -> dict[str, np.ndarray]:
        """Plays layer after layer, each with a policy of its own, until the judge has no more of them."""
        policy_class = load(source, LANGUAGE).get("Policy")
        if not hasattr(policy_class, "select"):
            raise CandidateError(
                FailureKind.INTERFACE, "The program has to define `class Policy` with a method `select`."
            )
        turn = ask("begin", {})
        with torch.no_grad():
            while turn:
                turn = _played(policy_class, ask, turn)
        return {}


def _played(policy_class: Any, ask: "Ask", turn: Arrays) -> Arrays:
    """One layer of one context, from the look at the end of the prompt on; returns the next turn."""
    torch.default_generator.manual_seed(int(turn["noise"]))  # tells nothing of the layer before
    policy = policy_class()
    if hasattr(policy, "observe"):
        policy.observe(Block(ask, turn), float(turn["budget"]))
    turn = ask("next", {})
    while turn and "seed" in turn:
        torch.default_generator.manual_seed(int(turn["noise"]))
        generator = torch.Generator().manual_seed(int(turn["seed"]))
        before = generator.get_state()
        block = Block(ask, turn)
        columns = _checked(policy.select(block, float(turn["budget"]), generator), block)
        drew = not torch.equal(before, generator.get_state())
        turn = ask("chosen", {"columns": columns, "drew": np.array(drew)})
    return turn


def _checked(columns: object, block: Block) -> np.ndarray:
    """Checks the form of a selection; its content is for the judge to check."""
    shape = (block.heads, block.end)
    if not isinstance(columns, torch.Tensor) or tuple(columns.shape) != shape:
        got = tuple(columns.shape) if isinstance(columns, torch.Tensor) else type(columns).__name__
        raise CandidateError(
            FailureKind.INTERFACE,
            f"select has to return columns [{block.heads}, {block.end}], true where they are computed; "
            f"it was {got}.",
        )
    if columns.is_floating_point():
        raise CandidateError(
            FailureKind.INTERFACE, "select has to return true or false for each column, no real numbers."
        )
    return columns.bool().contiguous().numpy()
