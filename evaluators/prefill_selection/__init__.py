"""Which tokens the query blocks of a prompt attend, within a share of the dense computation."""
