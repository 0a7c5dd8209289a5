"""TIFF and its kin: which image of a file is the section, what it states, its windows."""
