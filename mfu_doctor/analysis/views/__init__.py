"""Views of one trace, each computed once: nesting, device work, launches, steps and their time breakdown."""
