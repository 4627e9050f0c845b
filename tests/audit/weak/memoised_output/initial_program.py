"""Insertion sort, with its number of comparisons."""


def ordered(items):
    done, comparisons = [], 0
    for item in items:
        place = 0
        while place < len(done):
            comparisons += 1
            if done[place] > item:
                break
            place += 1
        done.insert(place, item)
    return comparisons, done
