"""`python -m edgeunet`."""

from .cli import main

main(prog_name="edgeunet")
