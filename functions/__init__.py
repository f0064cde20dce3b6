"""Stoker's functions: one module for each function, and packages for what they share."""
