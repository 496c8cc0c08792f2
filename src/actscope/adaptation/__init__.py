"""Adaptation: one file per way to fine-tune or distil through intermediate activations; what several share is in `_parts`."""
