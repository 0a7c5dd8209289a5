"""Training data: images, their sharp windows, and pairs degraded on the fly."""
