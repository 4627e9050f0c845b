"""What a verified policy needs when it is used alone: what one of `token_selection` needs, and its goal."""

from evaluators.token_selection.standalone import Cache, Index

__all__ = ["Cache", "Goal", "Index"]


class Goal:
    """A relative error of the quantity above `epsilon` is to have a probability of at most `delta`."""

    def __init__(self, epsilon: float, delta: float, quantity: str = "output") -> None:
        self.epsilon, self.delta, self.quantity = epsilon, delta, quantity
