"""The place of an output: who owns what lies there, on a disk and behind a URL."""
