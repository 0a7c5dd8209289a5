"""The page that people read: one HTML file that holds everything it shows and asks nothing of any network.

A report is opened years later, from a disk that no server knows, on a phone in the microscope room or printed.
So pictures, figures, styles and the little script are inside the file; tables and figures are plain HTML and SVG that are
there without the script, which adds sorting, the values under the pointer and the strength of the colours. A
content security policy in the page forbids whatever would leave it. File names and all other text are escaped.

One module per part of the page: `words` (the verdict), `summary` (tables of the figures), `histograms`, `heatmaps`,
`pictures`, `series` (volumes), `tables` (tiles and reasons), `provenance`; `embed` packs the tiles for the
script, `markup` escapes and writes numbers, `material` is what they all draw from. `assemble` puts them in order.
"""

from bigrestore.report.page.assemble import build_page

__all__ = ["build_page"]
