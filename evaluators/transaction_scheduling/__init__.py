"""In which order transactions run, so that their conflicts cost little time."""
