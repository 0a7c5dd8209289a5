"""Readers, one module per file format; `table` decides which one reads an input."""
