"""Every engine, precision, batch and number of threads of a bundle, timed on this machine."""
