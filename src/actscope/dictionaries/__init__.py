"""Dictionaries: one file per paper; what several share stands in `_parts`."""
