"""Measures: one file each, by what is judged."""
