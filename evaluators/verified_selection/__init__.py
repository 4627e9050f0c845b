"""Which cached tokens a decode step reads, and how many, for a guaranteed error."""
