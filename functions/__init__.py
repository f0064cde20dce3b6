"""Stoker's functions: one module a function, and the few modules that they share."""
