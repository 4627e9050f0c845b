"""Some capitals by heart."""

KNOWN = {"Norway": "Oslo", "Peru": "Lima"}


def capital(country):
    return KNOWN.get(country, country)
