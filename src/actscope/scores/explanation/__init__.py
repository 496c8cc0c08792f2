"""Measures of what a latent is said to mean."""
