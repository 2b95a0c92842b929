"""`python -m frechet`."""

from frechet.cli.main import main

main()
