"""Measures of a dictionary: how well it rebuilds, how sparse it is, what the model loses, what truth it finds."""
