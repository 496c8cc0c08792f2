"""The nouns and nothing else."""
