"""Fast kernels, each beside its plain reference; a test holds the two equal."""
