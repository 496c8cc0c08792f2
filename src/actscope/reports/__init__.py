"""Saved values drawn: the report as data, as a terminal table and as one self-contained HTML file."""
