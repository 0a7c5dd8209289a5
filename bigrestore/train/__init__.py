"""Training: data, losses, the guarded loop, and one file per stage. Needs neither zarr nor dask."""
