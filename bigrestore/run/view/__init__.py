"""What is told of a run: dry run, status, progress, summary, and the check of a machine."""
