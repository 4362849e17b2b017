"""Settings for unit tests: they are the same on every run, and never fail for being slow."""

import os

from hypothesis import HealthCheck, settings

# `ci` draws the same examples each time. HYPOTHESIS_PROFILE=thorough looks for new ones.
settings.register_profile(
    "ci",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", deadline=None, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
