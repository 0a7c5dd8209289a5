"""Commands and steps around `bigrestore run`."""
