"""The process on its host: processors and memory, signals, standard streams, names of files."""
