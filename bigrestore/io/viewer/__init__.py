"""Images for a viewer in the browser: what is shown, how it is served, and the page's state."""
