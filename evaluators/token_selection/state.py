"""A policy's declared state as plain arrays, and back: what it keeps elsewhere does not survive this."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from evaluators.token_selection.metering import Index, state_bytes


def pack(state: Mapping[str, object], prefix: str) -> dict[str, np.ndarray]:
    """`state` (tensors, Index objects, numbers, strings and containers of them) as arrays named with
    `prefix`.
    """
    state_bytes(dict(state))  # refuses what cannot be kept
    arrays: dict[str, np.ndarray] = {}

    def tree(item: object) -> Any:
        if isinstance(item, torch.Tensor | Index):
            tensor = item if isinstance(item, torch.Tensor) else item._rows
            name = f"{prefix}{len(arrays)}"
            # numpy has no bfloat16: every tensor travels as its bytes
            arrays[name] = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().copy()
            kind = "index" if isinstance(item, Index) else "tensor"
            return {
                kind: name,
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "shape": list(tensor.shape),
            }
        if isinstance(item, dict):
            return {"dict": [[tree(key), tree(value)] for key, value in item.items()]}
        if isinstance(item, list | tuple):
            return {type(item).__name__: [tree(element) for element in item]}
        return {"plain": item}

    text = json.dumps(tree(dict(state)))
    arrays[f"{prefix}tree"] = np.frombuffer(text.encode(), dtype=np.uint8)
    return arrays


def restore(policy_class: Any, arrays: Mapping[str, np.ndarray], prefix: str) -> Any:
    """A policy object with the state that `pack` wrote, made without calling anything of the candidate."""

    def build(node: Any) -> Any:
        if "plain" in node:
            return node["plain"]
        if "dict" in node:
            return {build(key): build(value) for key, value in node["dict"]}
        for container in (list, tuple):
            if container.__name__ in node:
                return container(build(element) for element in node[container.__name__])
        name = node.get("tensor", node.get("index"))
        raw = torch.from_numpy(arrays[name].copy())
        tensor = raw.view(getattr(torch, node["dtype"])).reshape(node["shape"])
        return tensor if "tensor" in node else Index(tensor)

    policy = object.__new__(policy_class)
    vars(policy).update(build(json.loads(bytes(arrays[f"{prefix}tree"]))))
    return policy
