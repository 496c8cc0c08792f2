"""Documents to read: text, code, JSON lines, the standard library, mixtures."""
