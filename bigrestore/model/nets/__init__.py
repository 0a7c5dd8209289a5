"""The restoration network, one module per file; it knows nothing of files but its own checkpoints."""
