"""Which GPU each of many served models is placed on, for the smallest KV-cache pressure."""
