"""The half of `verified_selection` inside the sandbox."""

import torch

from evaluators.token_selection.actor import Actor
from evaluators.verified_selection.language import LANGUAGE


def open_actor() -> Actor:
    torch.set_num_threads(1)
    return Actor(LANGUAGE)
