"""Every attribute, event and metric name that QueryWatch adds, and the standard names it uses.

The names are public API: changing one is a breaking change. Names without the ``querywatch.`` prefix are
OpenTelemetry's semantic conventions, https://opentelemetry.io/docs/specs/semconv/.
"""

from typing import Final

# On a database span.
QUERY_SEVERITY: Final = "querywatch.query.severity"
QUERY_FINGERPRINT: Final = "querywatch.query.fingerprint"
ORM_RELATIONSHIP: Final = "querywatch.orm.relationship"
N_PLUS_ONE: Final = "querywatch.n_plus_one"

# On the request span (the local root).
QUERY_COUNT: Final = "querywatch.query.count"
QUERY_DURATION: Final = "querywatch.query.duration"
FINDINGS: Final = "querywatch.findings"
SEVERITY: Final = "querywatch.severity"
N_PLUS_ONE_COUNT: Final = "querywatch.n_plus_one.count"

# On a finding: span event, log record. FINDING_KIND is the counter's attribute.
FINDING_ID: Final = "querywatch.finding.id"
FINDING_KIND: Final = "querywatch.finding.kind"
FINDING_KEY: Final = "querywatch.finding.key"
FINDING_COUNT: Final = "querywatch.finding.count"
FINDING_DISTINCT: Final = "querywatch.finding.distinct"
FINDING_DURATION: Final = "querywatch.finding.duration"
FINDING_WASTED: Final = "querywatch.finding.wasted"
ADVICE: Final = "querywatch.advice"

# Names of span events and of log records: one for each kind of finding.
EVENT_SLOW_QUERY: Final = "querywatch.slow_query"
EVENT_N_PLUS_ONE: Final = "querywatch.n_plus_one"
EVENT_REDUNDANT_QUERY: Final = "querywatch.redundant_query"
EVENT_QUERY_VOLUME: Final = "querywatch.query_volume"
EVENT_SLOW_REQUEST: Final = "querywatch.slow_request"
EVENT_CONNECTION_LEAK: Final = "querywatch.connection_leak"
EVENT_CONNECTION_RETURNED: Final = "querywatch.connection_returned"
EVENT_POOL_SATURATION: Final = "querywatch.pool_saturation"

# Metrics.
METRIC_FINDINGS: Final = "querywatch.findings"
METRIC_REQUEST_QUERIES: Final = "querywatch.request.queries"
METRIC_POOL_UTILIZATION: Final = "querywatch.pool.utilization"
METRIC_POOL_HEALTH: Final = "querywatch.pool.health"
METRIC_POOL_LEAKS: Final = "querywatch.pool.leaks"
METRIC_POOL_RECOVERIES: Final = "querywatch.pool.recoveries"
POOL_RECOVERY: Final = "querywatch.pool.recovery"

# OpenTelemetry's own names.
CODE_FILE_PATH: Final = "code.file.path"
CODE_LINE_NUMBER: Final = "code.line.number"
CODE_FUNCTION_NAME: Final = "code.function.name"
DB_QUERY_SUMMARY: Final = "db.query.summary"
DB_NAMESPACE: Final = "db.namespace"
DB_OPERATION_NAME: Final = "db.operation.name"
DB_SYSTEM_NAME: Final = "db.system.name"
DB_QUERY_TEXT: Final = "db.query.text"
DB_STATEMENT: Final = "db.statement"
DB_CLIENT_OPERATION_DURATION: Final = "db.client.operation.duration"
DB_CLIENT_CONNECTION_COUNT: Final = "db.client.connection.count"
DB_CLIENT_CONNECTION_MAX: Final = "db.client.connection.max"
DB_CLIENT_CONNECTION_IDLE_MAX: Final = "db.client.connection.idle.max"
DB_CLIENT_CONNECTION_IDLE_MIN: Final = "db.client.connection.idle.min"
DB_CLIENT_CONNECTION_PENDING_REQUESTS: Final = "db.client.connection.pending_requests"
DB_CLIENT_CONNECTION_TIMEOUTS: Final = "db.client.connection.timeouts"
DB_CLIENT_CONNECTION_CREATE_TIME: Final = "db.client.connection.create_time"
DB_CLIENT_CONNECTION_WAIT_TIME: Final = "db.client.connection.wait_time"
DB_CLIENT_CONNECTION_USE_TIME: Final = "db.client.connection.use_time"
DB_CLIENT_CONNECTION_POOL_NAME: Final = "db.client.connection.pool.name"
DB_CLIENT_CONNECTION_STATE: Final = "db.client.connection.state"
DB_CLIENT_CONNECTIONS_USAGE: Final = "db.client.connections.usage"
ERROR_TYPE: Final = "error.type"
HTTP_ROUTE: Final = "http.route"
HTTP_SERVER_REQUEST_DURATION: Final = "http.server.request.duration"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
