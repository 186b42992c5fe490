"""Data, losses and the training loop. Importing this package loads nothing."""
