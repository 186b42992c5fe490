"""Graph passes, one a file: a function from a model to a new model, each with its own test."""
