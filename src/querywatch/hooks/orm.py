"""Which ORM load a statement belongs to: told by the session before it runs, read when its cursor has run."""

import logging
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy
from packaging import version
from sqlalchemy import event
from sqlalchemy.orm import Mapper, ORMExecuteState, RelationshipProperty, Session

from querywatch.guard import guarded
from querywatch.window import Cause, Load

_logger = logging.getLogger("querywatch")

#: The execution option by which a `Load` travels from the ORM event to the cursor events of that very statement.
LOAD_OPTION: Final = "querywatch_load"

#: A `do_orm_execute` listener of an older version loses loader options, https://github.com/sqlalchemy/sqlalchemy/issues/13301.
OLDEST_VERSION: Final = version.parse("2.0.50")


class OrmHook:
    """Listens to every session, also to those that exist already."""

    def install(self) -> None:
        """Start to listen."""
        event.listen(Session, "do_orm_execute", _do_orm_execute)

    def uninstall(self) -> None:
        """Stop to listen."""
        event.remove(Session, "do_orm_execute", _do_orm_execute)


def is_supported() -> bool:
    """Whether this SQLAlchemy keeps loader options beside the listener; says so where it does not."""
    if version.parse(sqlalchemy.__version__) >= OLDEST_VERSION:
        return True
    _logger.warning(
        "SQLAlchemy %s is older than %s: QueryWatch does not see which relationship is loaded, everything else works",
        sqlalchemy.__version__,
        OLDEST_VERSION,
    )
    return False


@guarded
def _do_orm_execute(state: ORMExecuteState) -> None:
    # Asking a statement that is no SELECT for what it loads raises; returning a value would replace its result.
    if not state.is_select:
        return
    if state.is_relationship_load:
        load = _of_relationship(state)
    elif state.is_column_load:
        load = _of_columns(state)
    else:
        return
    if load is not None:
        state.update_execution_options(**{LOAD_OPTION: load})


def _of_relationship(state: ORMExecuteState) -> Load | None:
    parent = state.lazy_loaded_from
    if parent is None:  # selectinload and subqueryload: one query for all parents
        return None
    path: Any = state.loader_strategy_path  # declared as optional, as the state of a column load has none
    relationship = path[-1]
    if not isinstance(relationship, RelationshipProperty):
        return None
    cause = Cause.COLLECTION if relationship.uselist else Cause.SCALAR
    return Load(cause, f"{relationship.parent.class_.__name__}.{relationship.key}", hash(parent.key))


def _of_columns(state: ORMExecuteState) -> Load | None:
    # Neither the instance nor the columns nor a call of refresh() have a public name.
    instance: Any = getattr(state.load_options, "_refresh_state", None)
    if instance is None:
        return None
    columns = getattr(state._orm_compile_options(), "_only_load_props", None)
    subject = hash(instance.key)
    if getattr(state.load_options, "_is_user_refresh", False):
        return Load(Cause.REFRESHED, instance.class_.__name__, subject)
    if instance.expired or not columns:
        return Load(Cause.EXPIRED, instance.class_.__name__, subject)
    names = sorted(columns)
    owner: type = instance.mapper.get_property(names[0]).parent.class_
    return Load(_cause_of(instance, names), f"{owner.__name__}.{','.join(names)}", subject)


def _cause_of(instance: Any, names: Sequence[str]) -> Cause:
    if _is_subclass_column(instance.mapper, names[0]):
        return Cause.SUBCLASS
    return Cause.COMPUTED if instance.expired_attributes.issuperset(names) else Cause.DEFERRED


def _is_subclass_column(mapper: Mapper[Any], name: str) -> bool:
    """Whether `name` was left out because the query was for a base class, which does not have it."""
    return mapper.inherits is not None and not mapper.inherits.has_property(name)
