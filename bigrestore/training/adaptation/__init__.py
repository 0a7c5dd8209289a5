"""Fine-tuning a model on a user's own sections, without any other images."""
