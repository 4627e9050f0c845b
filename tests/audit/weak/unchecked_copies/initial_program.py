"""The items with the most value for their weight, as long as they fit."""


def choose(weights, values):
    chosen, left = [], 50
    for item in sorted(range(len(weights)), key=lambda one: -values[one] / weights[one]):
        if weights[item] <= left:
            chosen.append(item)
            left -= weights[item]
    return chosen
