"""Scores by trained networks: what an input says of its restoration, an order of distortions, and distances of features."""
