"""What real pairs tell without a network: registration, kernel, noise and compression of each window."""
