"""Looks at a folder from outside, as fast as it can, and says at the end what it saw at most.

It knows nothing of chipmill. Standard output gets the most bytes that lay there at one look, and
the number of looks, when standard input ends.
"""

import os
import select
import sys


def size(folder: str) -> int:
    """Add up the bytes of all files below a folder, some of which vanish meanwhile."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        total += size(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue
    except FileNotFoundError:
        return 0
    return total


def main(folder: str) -> None:
    """Look until nobody wants to know."""
    most = looks = 0
    while not select.select([sys.stdin], [], [], 0.001)[0]:
        most = max(most, size(folder))
        looks += 1
    print(most, looks)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
