"""Prompts with a known answer, one file per rule of the grammar."""
