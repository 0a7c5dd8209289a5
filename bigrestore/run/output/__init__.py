"""The place of an output: its owner and its files, on a disk and behind a URL."""
