"""W8: enqueue over HTTP through uvicorn, beside a bare route that does one INSERT."""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Mapping

from benchmarks.machine.processes import until
from benchmarks.machine.services import free_port
from benchmarks.measure.bench import Bench, Result
from benchmarks.plan.sizes import Sizes
from benchmarks.plan.subjects import Subject

CONNECTIONS = 16
BATCH = 100
START_SECONDS = 30.0
LOAD_SECONDS = 120.0
WARM_UP_REQUESTS = 100


def web(bench: Bench, subject: Subject, sizes: Sizes) -> Mapping[str, Result]:
    """Serve, and send requests of one job and then of a hundred from another process."""
    token, port = secrets.token_urlsafe(), free_port()
    kinds = {"W8 single": (sizes.requests, 1), "W8 batch": (sizes.batches, BATCH)}
    results = {}
    with bench.run(subject, 1) as run:
        server = run.start("serve", port, token)

        def serves() -> bool:
            server.check()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        if not until(serves, START_SECONDS):
            raise server.failed("does not serve")
        expected = 0
        for name, (requests, batch) in kinds.items():
            command = [sys.executable, "-m", "benchmarks.measure.http_load"]
            given = (port, token, requests, CONNECTIONS, batch, WARM_UP_REQUESTS)
            load = run.programs.start(
                "HTTP load", [*command, *(str(each) for each in given)], run.environment
            )
            answer = load.result(LOAD_SECONDS)
            expected += (requests + WARM_UP_REQUESTS) * batch
            stored = run.call("remaining")["remaining"]
            problem = None if stored == expected else f"{stored} of {expected} jobs are stored"
            rate = requests * batch / answer["seconds"]
            figures = {"p50_ms": answer["p50_ms"], "p99_ms": answer["p99_ms"]}
            results[name] = Result({"jobs_per_s": rate, **figures}, problem)
    return results
