"""Who guesses, from an explanation alone, where a latent fires: one way a file (`actscope.core.judge.Judge`)."""
