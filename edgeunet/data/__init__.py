"""Data sets and the images in them."""
