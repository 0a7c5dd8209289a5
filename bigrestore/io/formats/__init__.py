"""Readers, one module per file format; `table` chooses among them."""
