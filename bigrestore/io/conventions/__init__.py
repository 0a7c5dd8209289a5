"""What the numbers of a file mean: which axis is what, which way it runs, colour, black and white."""
