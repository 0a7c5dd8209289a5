"""The estimator of blur and noise, and the statistics of windows that it reads."""
