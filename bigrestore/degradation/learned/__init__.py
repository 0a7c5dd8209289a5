"""Recipes learned from pairs, in files of `bigrestore train degradation`."""
