"""Each price in whole numbers."""


def smooth(prices):
    return [float(round(price)) for price in prices]
