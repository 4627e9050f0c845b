"""Says whether a text has a figure at its beginning."""


def about_numbers(text):
    return text[0].isdigit()
