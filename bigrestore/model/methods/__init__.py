"""The methods beside the network: interpolation, and the classical and other methods of the field."""
