"""Files wherever they lie: folders, zip files, URLs, and limits on what a header may claim."""
