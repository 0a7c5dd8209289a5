"""Scores of tiles and the report of them: of a run while it goes on, or of images that are there."""
