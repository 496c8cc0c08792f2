"""Models wrapped as subjects: transformers folders and hub ids (`load`), any nn.Module (`wrap`)."""
