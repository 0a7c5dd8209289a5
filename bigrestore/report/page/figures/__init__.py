"""Figures of the page: histograms, heat maps, series over z, pictures of tiles."""
