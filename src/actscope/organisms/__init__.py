"""The built-in trained models, the grammar they were trained on, and what is true of them."""
