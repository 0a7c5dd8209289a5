"""The estimator of blur and noise, and its statistics of windows."""
