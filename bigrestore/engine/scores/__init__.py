"""Scoring: the tiles of a run while it goes on and its report, or of images that are there."""
