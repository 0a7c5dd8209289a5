"""Bodies of backbones: image in, features of the same grid out."""
