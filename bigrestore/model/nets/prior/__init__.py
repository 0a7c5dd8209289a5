"""The prior of tissue: its generator, the mapping into it, and the critics of its training."""
