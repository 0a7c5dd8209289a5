"""Sizes of blocks and chunks, apart from their geometry: the settings need no more, and `--help` is not to wait."""

BLOCK_PX = 3840
"""Default side of a block, and of an output shard, in output pixels."""

CHUNK_PX = 480
"""Side of a chunk of the output, in output pixels; blocks are multiples of it."""
