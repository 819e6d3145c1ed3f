"""`python -m chipmill`: the command line."""

from chipmill.command import main

main()
