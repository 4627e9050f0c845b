"""Recent window: the newest tokens stay. A floor: without the first tokens, attention has no sink."""


class Policy:
    def score(self, layer):
        return layer.positions.float()
