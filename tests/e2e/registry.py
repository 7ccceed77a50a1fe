"""Tells, under the wrapper, how many listeners SQLAlchemy's classes have, and what is loaded that can be off."""

import json
import sys
from typing import Any

from sqlalchemy import Dialect, Engine, create_engine, text
from sqlalchemy.orm import Session

LISTENERS: dict[str, Any] = {
    "before_cursor_execute": Engine,
    "after_cursor_execute": Engine,
    "handle_error": Dialect,
    "engine_connect": Engine,
    "do_orm_execute": Session,
}

if __name__ == "__main__":
    with create_engine("sqlite://").connect() as connection:
        connection.execute(text("SELECT 1"))
    # Registered for the whole class, as only QueryWatch does it: contrib's instrumentation listens to single engines.
    listeners = {name: len(getattr(owner.dispatch, name)._clslevel.get(owner, ())) for name, owner in LISTENERS.items()}
    hooks = sorted(name for name in sys.modules if name.startswith("querywatch.hooks"))
    system_metrics = "opentelemetry.instrumentation.system_metrics" in sys.modules
    loaded = {"listeners": listeners, "hooks": hooks, "system_metrics": system_metrics}
    sys.stdout.write(json.dumps(loaded) + "\n")
