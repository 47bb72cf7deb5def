"""The report as one HTML file and in a notebook."""
