"""N+1 and redundant queries: the verdict on a group of repeated queries, and the sentence that names the fix."""

from collections.abc import Iterator

from querywatch.findings import Finding, Kind, Severity
from querywatch.settings import Settings
from querywatch.window import Cause, Group, Load, Window


def verdict(group: Group, settings: Settings) -> Kind | None:
    """Return what `group` is: an N+1, a redundant query, or (None) neither: few runs, batch loading, pagination."""
    threshold = settings.n_plus_one_threshold
    if group.distinct >= threshold:
        return Kind.N_PLUS_ONE
    return Kind.REDUNDANT_QUERY if group.most >= threshold else None


def detect(window: Window) -> Iterator[Finding]:
    """Yield one finding for each group with a verdict."""
    for group in tuple(window.groups.values()):
        kind = verdict(group, window.settings)
        if kind is not None:
            yield _finding(kind, group, window.settings)


def _finding(kind: Kind, group: Group, settings: Settings) -> Finding:
    critical = group.wasted > settings.slow_query_threshold
    return Finding(
        kind=kind,
        key=group.key,
        severity=Severity.CRITICAL if critical else Severity.WARNING,
        count=group.runs,
        distinct=group.distinct,
        duration=group.duration,
        wasted=group.wasted,
        advice=_redundant(group) if kind is Kind.REDUNDANT_QUERY else _n_plus_one(group),
        callsite=group.callsite,
    )


def _redundant(group: Group) -> str:
    if group.load is not None:
        return f"{group.load.name} was loaded {group.most} times for one instance: keep it, or refresh it less often."
    if group.statement.is_write:
        return f"The same {group.statement.verb} ran {group.most} times with the same parameters: run it once."
    return f"The same query ran {group.most} times with the same parameters: keep the result of the first run."


def _n_plus_one(group: Group) -> str:
    if group.load is not None:
        return _of_load(group.load, group.distinct)
    if group.statement.is_write:
        return _of_write(group)
    return _of_statement(group)


def _of_load(load: Load, distinct: int) -> str:
    entity = load.name.partition(".")[0]
    match load.cause:
        case Cause.COLLECTION:
            return f"Load it with the parents: .options(selectinload({load.name})) on the query for {entity}."
        case Cause.SCALAR:
            return f"Load it with the parents: .options(joinedload({load.name})) on the query for {entity}."
        case _:
            return _of_columns(load, entity, distinct)


def _of_columns(load: Load, entity: str, distinct: int) -> str:
    match load.cause:
        case Cause.DEFERRED:
            columns = ", ".join(f"undefer({entity}.{name})" for name in load.name.partition(".")[2].split(","))
            return f"Load the deferred column with the rows: .options({columns}) on the query for {entity}."
        case Cause.SUBCLASS:
            return f"Load the subclass's columns with the rows: .options(selectin_polymorphic(…, [{entity}]))."
        case Cause.COMPUTED:
            return (
                f"{load.name} was read again row by row after a flush or an expire(): fetch what the database computes "
                f"with the write (eager_defaults=True in {entity}.__mapper_args__), or load it with one select()."
            )
        case Cause.REFRESHED:
            return (
                f"{distinct} instances of {entity} were refreshed one by one: refresh them together, "
                f"select({entity}).execution_options(populate_existing=True) with one in_() of their keys."
            )
        case _:
            return (
                f"{distinct} expired instances of {entity} were read again one by one: read them before the commit, "
                f"load them again with one select({entity}), or use Session(expire_on_commit=False)."
            )


def _of_write(group: Group) -> str:
    table = group.statement.table or "the table"
    match group.statement.verb:
        case "INSERT" | "REPLACE":
            return (
                f"Send the rows together: session.add_all([…]) and one flush, or one insert({table}).values([…]) "
                f"instead of {group.runs}."
            )
        case "DELETE":
            column = group.statement.column
            what = f"where({column}.in_([…]))" if column else "where(…) that names them all"
            return f"Delete the rows together: one delete({table}).{what} instead of {group.runs}."
        case verb:
            return (
                f"Write the rows together: one flush for all, or one session.execute({verb.lower()}(…), [{{…}}, …]) "
                f"on {table} instead of {group.runs}."
            )


def _of_statement(group: Group) -> str:
    column = group.statement.column
    what = f"where({column}.in_([…]))" if column else "an in_() on what changes, or a join"
    return f"Ask once for all {group.distinct}: one query with {what} before the loop instead of one in each turn."
