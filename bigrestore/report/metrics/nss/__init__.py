"""NIQE, BRISQUE and PIQE, computed from the papers (natural scene statistics)."""
