"""What ways to adapt share: a subject's twin with weights of its own, which the training loop trains."""
