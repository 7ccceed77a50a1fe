"""A script that forks after its first export of metrics; parent and child then count, export, and end in order.

With an argument it forks so many seconds after its second export has begun.
"""

import os
import sys
import threading
import time
from typing import Any

from opentelemetry import metrics

if __name__ == "__main__":
    provider: Any = metrics.get_meter_provider()
    counter = metrics.get_meter("forking").create_counter("forks")
    # The first export opens a connection to the Collector, which is kept.
    provider.force_flush()
    for seconds in sys.argv[1:]:
        threading.Thread(target=provider.force_flush).start()
        time.sleep(float(seconds))
    child = os.fork()
    counter.add(1 if child else 2)
    # Not left to the end of the process, as kept connections are closed before its last export.
    provider.force_flush()
    if child:
        os.waitpid(child, 0)
