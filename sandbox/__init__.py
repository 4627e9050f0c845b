"""Screen, isolation, and distribution of candidates over workers."""
