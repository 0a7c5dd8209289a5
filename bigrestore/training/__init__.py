"""Training: data, losses, the guarded loop, and one file per stage."""
