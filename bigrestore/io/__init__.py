"""Reading sections of every supported format, writing pyramids, and checking what was written.

Nothing here knows of networks: pixels come in and go out as numpy arrays in the storage dtype.
"""
