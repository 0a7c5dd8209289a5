"""Restoration methods: anything that maps a tile to a tile, behind one protocol (`base`), in one list (`registry`)."""
