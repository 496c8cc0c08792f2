"""Who guesses from an explanation alone where a latent fires."""
