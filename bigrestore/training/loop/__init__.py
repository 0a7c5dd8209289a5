"""The training loop: the same for every stage, and safe to kill at any moment."""
