"""Captured activations: taking them, keeping them, reading them in any order."""
