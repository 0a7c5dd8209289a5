"""The table of tiles: its grid, rows, columns, statistics and files."""
