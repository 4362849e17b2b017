"""Becomes another program, which the kernel ends when the benchmark is gone, killed or not.

python -m benchmarks.machine.leash node server.js
"""

from __future__ import annotations

import os
import sys

from benchmarks.systems.protocol import end_with_the_parent

if __name__ == "__main__":
    end_with_the_parent()
    os.execvp(sys.argv[1], sys.argv[1:])
