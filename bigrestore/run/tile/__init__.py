"""The way of one tile: mask, restoration, blending, maps."""
