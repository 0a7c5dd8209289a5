"""Checks of written images: stores and TIFF files, their levels, metadata, and what they say of themselves."""
