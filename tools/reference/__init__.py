"""Pages of docs/reference that are written from the code: see tools/write_reference.py."""
