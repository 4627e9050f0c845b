"""What every room of kvolve may import: the version, the cache, and the error that a user can mend."""

import os
from pathlib import Path

__version__ = "0.1.0"


class KvolveError(Exception):
    """What a user can mend: the message says what was given, what is allowed and what to do.

    The command line prints it without a traceback and exits with this code: 2 for what was given, 1 for what
    happened to a run. Anything else that escapes is a bug.
    """

    exit_code = 2


def cache_folder() -> Path:
    """The folder for what can be made again: `$KVOLVE_CACHE`, or `~/.cache/kvolve`; made when missing.

    Raises KvolveError where it cannot be made.
    """
    folder = Path(os.environ.get("KVOLVE_CACHE") or Path.home() / ".cache" / "kvolve")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KvolveError(
            f"The cache folder {folder} cannot be made ({error.strerror}). Set KVOLVE_CACHE."
        ) from error
    return folder
