"""Maths that several dictionaries share: selection rules, starts, revival of dead latents, unit norms."""
