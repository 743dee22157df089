"""`python -m oplogbridge` is the command `oplog-bridge`."""

from oplogbridge.cli import main

if __name__ == "__main__":
    main()
