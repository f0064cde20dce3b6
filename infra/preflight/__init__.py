"""Checks of a cluster before and after an overlay is applied: prints a line for each missing thing, with the fix."""
