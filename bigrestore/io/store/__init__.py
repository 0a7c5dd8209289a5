"""Outputs: OME-Zarr stores, their pyramids, TIFF files, zip files."""
