"""actscope: know, prove and change what happens inside a neural network."""
