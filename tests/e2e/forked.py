"""A script that forks: the child holds memory that its parent does not have, and both end in order."""

import os
import sys

MEBIBYTES = 150

if __name__ == "__main__":
    child = os.fork()
    if child == 0:
        held = b"x" * (MEBIBYTES << 20)
        sys.exit()
    os.waitpid(child, 0)
