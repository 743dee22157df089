"""The command `oplog-bridge`. stdout carries results; logs and progress go to stderr.

Exit codes: 0 done; 1 unexpected; 2 what file, environment or arguments show to be wrong; 3 stopped because only a
person can mend it; 4 `verify` found differences.
"""

from oplogbridge.cli.main import main

__all__ = ["main"]
