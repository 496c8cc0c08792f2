"""Ways to say what a latent means."""
