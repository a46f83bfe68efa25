"""`python -m dozencloud`: the same as `dozen`."""

from dozencloud.cli import main

if __name__ == "__main__":
    main()
