"""Token selection: which cached tokens a decode step reads, and with which sampling probability."""
