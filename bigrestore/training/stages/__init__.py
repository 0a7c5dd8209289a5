"""The stages of training, one module each, and their parts."""
