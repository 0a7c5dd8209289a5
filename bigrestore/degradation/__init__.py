"""The degradation model: from a clean section to a worn, blurred, noisy scan of it."""
