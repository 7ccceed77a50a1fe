"""One number for a pool: 1 is healthy, 0 is not. A product, so that each trouble counts whatever the others say."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vitals:
    """What health is made of, over the last minute.

    `utilization` is used / maximum, `wait_share` the part of the time for waiting and using that was waiting,
    `timeout_share` and `failure_share` the parts of all checkouts that timed out or found no database, `leak_share`
    leaked connections / maximum. All lie between 0 and 1.
    """

    utilization: float = 0.0
    wait_share: float = 0.0
    timeout_share: float = 0.0
    failure_share: float = 0.0
    leak_share: float = 0.0


def health(vitals: Vitals, warning: float) -> float:
    """Return the health of a pool, 0 to 1, that never rises when one of its vitals gets worse.

    health = (1 - u/2) (1 - w) (1 - t) (1 - f) (1 - l), where u is how far utilisation has come from the `warning`
    threshold (0) to a full pool (1): a full pool that nobody waits for is half well. The formula is our own; its
    inputs are those that HikariCP's documentation tells operators to watch.
    """
    over = (_share(vitals.utilization) - warning) / (1 - warning) if warning < 1 else 0.0
    result = 1 - _share(over) / 2
    for trouble in (vitals.wait_share, vitals.timeout_share, vitals.failure_share, vitals.leak_share):
        result *= 1 - _share(trouble)
    return result


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
