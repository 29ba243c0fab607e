"""`python -m kerassurgery_fn` is the command line `kerassurgery`."""

from kerassurgery_fn.cli.program import main

if __name__ == "__main__":
    main()
