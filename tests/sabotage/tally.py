"""A program: run the tests that are claimed to catch bugs, each with its bug, and tell.

It reads which test belongs to which bug as JSON. It is a process of its own, because a pytest
within a pytest shares too much with it.
"""

from __future__ import annotations

import json
import sys

from tests.sabotage.bugs import BUGS
from tests.sabotage.catchers import failing_test, import_tests


def main() -> None:
    """Print, as JSON, whether the tests are green without a bug, and which bug made one red."""
    claimed: dict[str, str] = json.load(sys.stdin)
    tests = sorted(set(claimed.values()))
    import_tests(tests)
    without = failing_test(None, tests)
    red = {name: failing_test(BUGS[name], [test]) for name, test in claimed.items()}
    sys.stdout.write(json.dumps({"without": without or "green", "red": red}) + "\n")


if __name__ == "__main__":
    main()
