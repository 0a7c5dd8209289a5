"""The degradation model: from a clean section to what a worn, blurred, noisy scan of it would look like."""
