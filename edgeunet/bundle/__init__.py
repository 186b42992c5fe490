"""The bundle: its format, how it is read, and the engines beside it. Loads no torch."""
