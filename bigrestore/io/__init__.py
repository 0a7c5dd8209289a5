"""Read sections of every supported format, write pyramids, and verify them.

Nothing here knows of networks: pixels come in and go out as numpy arrays in the storage dtype.
"""
