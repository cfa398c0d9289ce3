"""``python -m nerveseg``: the command without its script."""

from nerveseg.cli import main

if __name__ == "__main__":
    main()
