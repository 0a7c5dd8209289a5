"""Scores of tiles and the report of them: of a run, or of existing images."""
