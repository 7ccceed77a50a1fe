"""The findings on pools, and the sentence that names the fix. Pure."""

from collections import Counter

from querywatch.findings import Finding, Kind, Severity
from querywatch.pool.state import Checkout, PoolState, Usage


def leak(checkout: Checkout, *, ended: bool) -> Finding:
    """Return the finding for a connection that is still out: its request has `ended`, or it is held for too long."""
    when = "its request has ended" if ended else f"it has been held for {checkout.held:.0f} s"
    return Finding(
        kind=Kind.CONNECTION_LEAK,
        key=f"{checkout.state.name}@{checkout.place}",
        severity=Severity.CRITICAL if checkout.state.saturation.level is Severity.CRITICAL else Severity.WARNING,
        count=1,
        distinct=1,
        duration=checkout.held,
        wasted=0.0 if ended else checkout.held,
        advice=f"The connection taken here was not given back, and {when}: use `with engine.connect()` or "
        "`with Session(engine)`, or close it in a teardown.",
        callsite=checkout.callsite,
    )


def saturation(state: PoolState, usage: Usage, severity: Severity, *, timed_out: bool) -> Finding:
    """Return the finding for a pool that is nearly empty, with the routes that hold its connections."""
    checkouts = state.checkouts()
    holders = Counter(checkout.route or "no request" for checkout in checkouts).most_common(3)
    held = ", ".join(f"{route} ({number})" for route, number in holders) or "nobody that is known"
    happened = "a checkout timed out" if timed_out else f"{usage.used} of {usage.max} connections are in use"
    return Finding(
        kind=Kind.POOL_SATURATION,
        key=state.name,
        severity=severity,
        count=usage.used,
        distinct=len(holders),
        duration=max((checkout.held for checkout in checkouts), default=0.0),
        wasted=0.0,
        advice=f"{happened[0].upper()}{happened[1:]}, held by {held}: give them back sooner, make what they wait for "
        "faster, or enlarge the pool (docs/pool-sizing.md).",
    )
