"""A model that writes policies of `token_selection`: its reply follows from the prompt."""

import hashlib

from tests.llm.server import Exchange, says

POLICY = """
import torch

FIRST = {first}  # tokens at the start


class Policy:
    def select(self, query, cache, budget, generator):
        room = cache.affordable(budget)
        front = torch.arange(min(FIRST, room))
        back = torch.arange(cache.length - (room - len(front)), cache.length)
        chosen = torch.cat([front, back]).expand(cache.heads, -1)
        return chosen, torch.ones(chosen.shape)
"""
FAULTS = (
    "I cannot help with that.",
    "",
    "```python\nclass Policy:\n    def select(self",
    "```python\nx = 1\n```",
)
FAULTY = 10  # one reply of so many
LESSON = "Sinks matter [most], then what is recent."


def policies(exchange: Exchange) -> None:
    """Answers with a policy that keeps some first and the latest tokens, or with a lesson; every tenth reply
    is of no use.
    """
    asked = "".join(message["content"] for message in exchange.body["messages"])
    drawn = int(hashlib.sha256(asked.encode()).hexdigest(), 16)
    kind, drawn = drawn % FAULTY, drawn // FAULTY
    if "at most four lessons" in exchange.body["messages"][-1]["content"]:
        says(f"- {LESSON}")(exchange)
        return
    text = (
        FAULTS[drawn % len(FAULTS)]
        if kind == 0
        else f"I try.\n```python{POLICY.format(first=drawn % 300)}```"
    )
    says(text)(exchange)
