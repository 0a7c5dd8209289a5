"""The estimator of blur and noise, and the image statistics it is given."""
