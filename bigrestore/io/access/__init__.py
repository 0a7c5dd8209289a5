"""Files in folders, zip files and behind URLs, and limits on the claims of headers."""
