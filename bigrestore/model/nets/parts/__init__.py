"""Networks that are no restorers by themselves, and the files they lie in."""
