"""The state of a run on the disk: journal, lock, fingerprint and checksums."""
