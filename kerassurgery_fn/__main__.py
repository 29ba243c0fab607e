"""`python -m kerassurgery_fn` is the command line `kerassurgery`."""

from kerassurgery_fn.cli.commands import main

if __name__ == "__main__":
    main()
