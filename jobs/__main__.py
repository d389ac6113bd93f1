"""`python -m jobs` is `supir`: for where the package is, but not its console script."""

from jobs.cli import main

if __name__ == "__main__":
    main()
