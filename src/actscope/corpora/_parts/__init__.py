"""Bounded passages of text and code."""
