"""The HTML page of a report: one file, complete, without any request to a network.

A report is opened years later, from a copied disk, on a phone in the microscope room or printed. So pictures,
figures, styles and the small script are inside the file. Tables and figures are plain HTML and SVG; the script adds
sorting, the values under the pointer and the strength of the colours. A content security policy in the page forbids
every request. File names and all other text are escaped.

One module per part of the page: `words` (the verdict), `summary` (tables of the figures), `histograms`, `heatmaps`,
`pictures`, `series` (volumes), `tables` (tiles and reasons), `provenance`; `embed` packs the tiles for the
script, `markup` escapes and writes numbers, `data` holds their common input. `assemble` puts them in order.
"""

from bigrestore.report.page.assemble import build_page

__all__ = ["build_page"]
