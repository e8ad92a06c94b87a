"""Models that remember: the states of their running sequences, and what of a graph's tensors is state."""
