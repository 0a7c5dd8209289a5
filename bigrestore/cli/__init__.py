"""The command line; importing it imports neither torch nor zarr nor dask nor numpy."""
