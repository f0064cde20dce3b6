"""Checks of a cluster before and after an overlay is applied: what is missing, each in a line that says what to do."""
