"""Who answers questions for explainers and judges: language models, here or behind a URL."""
