"""Outputs: OME-Zarr stores, their pyramids, TIFF files, zip files, and the checks of all of them."""
