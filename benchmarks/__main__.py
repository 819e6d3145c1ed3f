"""Run the benchmarks: all, or those that are named.

make bench
python -m benchmarks index stage
"""

import sys
from importlib import import_module

from benchmarks.measure import say_machine

ALL = ("index", "merge", "plan", "service", "stage", "stats")


def main() -> None:
    """Run the benchmarks one after the other."""
    say_machine()
    for name in sys.argv[1:] or ALL:
        import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
