"""What a family of models looks like inside, one file a family, named by the `model_type` of its config.json."""
