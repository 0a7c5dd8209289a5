"""Several processes for one run: parts of a job array, workers of this machine, workers of a cluster."""
