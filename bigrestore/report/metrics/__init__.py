"""Scores and measures of one tile: engines, structure without a reference, comparison with one."""
