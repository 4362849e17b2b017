"""How long to wait before the next attempt. Pure: the jitter draw is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from async_jobs.domain.errors import InvalidJobError

DELAY_SECONDS_MAX = 366 * 24 * 3600.0
# After this many doublings or steps even the smallest float has passed DELAY_SECONDS_MAX, so
# that no attempt count, however large, is too large to compute with.
_DOUBLINGS_MAX = 1_100
_STEPS_MAX = 2**1_000


class BackoffType(StrEnum):
    """The curve of the delay over the attempts made."""

    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffPolicy:
    """The delay before attempt `n + 1`, after `n` failed ones.

    exponential: `base · 2^(n-1)`; linear: `base · n`; constant: `base`; never above the
    maximum, then multiplied by `1 - jitter · draw`.

    By default a delay is from half of itself to the whole, so that jobs which failed at the same
    instant, of one outage or in one dead worker, do not all come back at the same instant.

    Raises:
        InvalidJobError: a delay outside 0-366 days, or a jitter outside 0-1.
    """

    type: BackoffType = BackoffType.EXPONENTIAL
    base_delay_seconds: float = 60.0
    max_delay_seconds: float = 3600.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "type", BackoffType(self.type))
        except ValueError:
            allowed = ", ".join(BackoffType)
            raise InvalidJobError("backoff_policy.type", f"must be one of {allowed}") from None
        for name in ("base_delay_seconds", "max_delay_seconds"):
            value = _finite(f"backoff_policy.{name}", getattr(self, name))
            if not 0 <= value <= DELAY_SECONDS_MAX:
                raise InvalidJobError(f"backoff_policy.{name}", "must be from 0 s to 366 days")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "jitter", _finite("backoff_policy.jitter", self.jitter))
        if not 0 <= self.jitter <= 1:
            raise InvalidJobError("backoff_policy.jitter", "must be from 0 to 1")

    def delay(self, attempts: int, draw: float = 0.0) -> timedelta:
        """Return the delay after `attempts` (at least 1) attempts; `draw` is in [0, 1)."""
        if attempts < 1 or not 0 <= draw < 1:
            raise ValueError("attempts must be at least 1 and draw within [0, 1)")
        seconds = min(self._curve_seconds(attempts), self.max_delay_seconds)
        return timedelta(seconds=seconds * (1 - self.jitter * draw))

    def _curve_seconds(self, attempts: int) -> float:
        """Return the delay before the maximum and the jitter; infinite where it overflows."""
        match self.type:
            case BackoffType.EXPONENTIAL:
                try:
                    return math.ldexp(self.base_delay_seconds, min(attempts - 1, _DOUBLINGS_MAX))
                except OverflowError:
                    return math.inf
            case BackoffType.LINEAR:
                return self.base_delay_seconds * min(attempts, _STEPS_MAX)
            case BackoffType.CONSTANT:
                return self.base_delay_seconds


def _finite(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidJobError(field, f"must be a number, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise InvalidJobError(field, "must be finite")
    return number
