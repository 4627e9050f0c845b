"""What every room of kvolve may import: the version, and the one exception for what a user can mend."""

__version__ = "0.1.0"


class KvolveError(Exception):
    """What a user can mend: the message says what was given, what is allowed and what to do.

    The command line prints it without a traceback and exits with code 2. Anything else that escapes is a bug.
    """
