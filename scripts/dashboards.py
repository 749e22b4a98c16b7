#!/usr/bin/env python3
"""Writes dashboards/*.json from the boards declared below; with --check, says whether they are up to date.

A panel is one line of intent: title, unit, queries, what it tells, the alert it belongs to. What
Grafana wants around it (ids, grid, data source, thresholds' colours, links) is the same for all and
stands here once.
"""
import json
import pathlib
import sys
from urllib.parse import quote

HERE = pathlib.Path(__file__).resolve().parent.parent
OUT = HERE / "dashboards"
RUNBOOKS = "${runbooks}"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

# Selectors: every query names the installation; C adds the command.
J = 'job=~"$job",namespace=~"$namespace",instance=~"$instance"'
C = J + ',command=~"$command"'


def where(labels, *more):
    """A selector with further matchers: where(J, ("code", "=~", "5..")) ."""
    return ",".join([labels] + [f'{name}{op}"{value}"' for name, op, value in more])


def rate(metric, by="", labels=J, window="$__rate_interval", fn="rate"):
    """Sum of a counter's rate over nodes, split by `by`."""
    split = f" by ({by})" if by else ""
    return f"sum{split} ({fn}({metric}{{{labels}}}[{window}]))"


def quantile(q, metric, by="", labels=J):
    """A quantile of a histogram over all nodes, split by `by`."""
    le = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(metric + '_bucket', le, labels)})"


def shared(metric, by="", labels=J):
    """A gauge of the store, which is the same on every node: the largest answer, never the sum."""
    split = f" by ({by})" if by else ""
    return f"max{split} ({metric}{{{labels}}})"


def total(metric, by, labels=J):
    """Sum over `by` of a gauge of the store."""
    return f"sum({shared(metric, by, labels)})"


def panel(title, unit, *targets, tells, alert=None, kind="timeseries", steps=(), width=8, height=8, **extra):
    """`targets`: (expr, legend). `steps`: values at which green turns amber, then red."""
    return dict(title=title, unit=unit, targets=targets, tells=tells, alert=alert, kind=kind,
                steps=steps, width=width, height=height, **extra)


def stat(title, unit, expr, tells, **more):
    more.setdefault("width", 4)
    more.setdefault("height", 4)
    return panel(title, unit, (expr, title), tells=tells, kind="stat", **more)


def heat(title, unit, metric, tells, labels=C, **more):
    return panel(title, unit, (rate(metric + "_bucket", "le", labels), "{{le}}"), tells=tells, kind="heatmap",
                 width=12, **more)


def quantiles(title, metric, tells, by="", labels=J, qs=(0.5, 0.95, 0.99), unit="s", **more):
    legend = " ".join("{{%s}}" % label.strip() for label in by.split(",") if label)
    targets = [(quantile(q, metric, by, labels), f"p{int(q * 100)} {legend}".strip()) for q in qs]
    return panel(title, unit, *targets, tells=tells, exemplar=True, **more)


def burn(window, kind):
    return f"codeq:http_requests:{kind}_ratio_rate{window}" + '{job=~"$job",namespace=~"$namespace"}'


IN_PROGRESS = J + ',queue="in_progress"'
READY = J + ',queue="ready"'
WAITING = 'sum(codeq_waiters{' + J + ',kind="claim"})'
RUNNING = total("codeq_queue_depth", "command", IN_PROGRESS)
BUSY = f"{RUNNING} / ({RUNNING} + {WAITING})"
CREATED, CLAIMED = "codeq_task_created_total", "codeq_task_claimed_total"
COMPLETED = "codeq_task_completed_total"
LIFE, WAIT = "codeq_task_processing_latency_seconds", "codeq_task_queue_wait_seconds"
EXECUTION = "codeq_task_execution_seconds"
TOLD = "codeq_webhook_end_to_end_seconds"
FAILED = J + ',status="FAILED"'
SUCCESS_24H = (f"1 - (({rate(COMPLETED, labels=FAILED, window='24h', fn='increase')} or vector(0)) / "
               f"{rate(COMPLETED, window='24h', fn='increase')})")

OVERVIEW = [
    stat("Ready", "short", total("codeq_queue_depth", "command", READY), "Tasks that a worker could take now.",
         alert="CodeqQueueBacklogHigh", steps=(1000, 10000)),
    stat("In progress", "short", RUNNING, "Tasks that a worker holds under a lease."),
    stat("Dead letters", "short", total("codeq_dlq_depth", "command"),
         "Tasks whose attempts are used up and that wait for a person.", alert="CodeqDLQGrowing", steps=(1, 100)),
    stat("Created/s", "ops", rate(CREATED), "Tasks taken in."),
    stat("Completed/s", "ops", rate(COMPLETED), "Tasks that ended, well or badly."),
    stat("Success, 24 h", "percentunit", SUCCESS_24H, "Share of ended tasks that did not fail, over a day.",
         alert="CodeqLowSuccessRate", steps=(0.95, 0.99), rising=True),
    stat("Workers active", "short", total("codeq_workers_active", "command"),
         "Workers that claimed or kept a task in the last two minutes, summed over commands.",
         alert="CodeqWorkersMissing"),
    stat("Busy share", "percentunit", BUSY, "Tasks in progress over those and waiting claims: near 1, workers are short.",
         alert="CodeqWorkerCapacityLow", steps=(0.8, 0.95)),
    stat("Nodes", "short", 'count(up{job=~".*codeq.*",namespace=~"$namespace",instance=~"$instance"} == 1)',
         "Brokers that Prometheus can scrape.", alert="CodeqTargetDown"),
    stat("Firing alerts", "short", 'count(ALERTS{alertstate="firing",alertname=~"Codeq.*"}) or vector(0)',
         "Alerts of codeq that fire now.", steps=(1, 3)),
    ("row", "Flow"),
    panel("Task rates", "ops", (rate(CREATED), "created"), (rate(CLAIMED), "claimed"),
          (rate(COMPLETED, "status"), "{{status}}"),
          tells="In a steady state the lines lie on each other. Claimed above created: redeliveries."),
    quantiles("End to end", LIFE, "From creation to the end of a task. Above the alert, producers notice.",
              by="command", labels=C, steps=(0.5, 1), alert="CodeqTaskLatencyP99High"),
    quantiles("Queue wait p99", WAIT, "From ready to claimed: the time a worker was missing.", by="command", labels=C,
              qs=(0.99,), steps=(10, 60), alert="CodeqPickupSlow"),
    panel("Depth", "short", (shared("codeq_queue_depth", "command, queue", C), "{{command}} {{queue}}"),
          tells="Tasks per command and state.", alert="CodeqQueueBacklogHigh"),
    panel("Workers", "short", (shared("codeq_workers_active", "command", C), "{{command}}"),
          tells="Distinct workers of the last two minutes.", alert="CodeqWorkersMissing"),
    panel("Tasks per worker", "short",
          (f"{shared('codeq_queue_depth', 'command', where(C, ('queue', '=', 'in_progress')))} / "
           f"on (command) ({shared('codeq_workers_active', 'command', C)} > 0)", "{{command}}"),
          tells="Tasks in progress for each active worker."),
    panel("Oldest ready", "s", (shared("codeq_queue_oldest_ready_age_seconds", "command", C), "{{command}}"),
          tells="How long the oldest ready task has waited. Growing without a backlog: a stuck queue.",
          steps=(30, 60), alert="CodeqQueueStalled"),
    ("row", "Trouble"),
    panel("Expired leases", "ops", (rate("codeq_lease_expired_total", "command", C), "{{command}}"),
          tells="Workers that died or went silent in the middle of a task.", steps=(0.5, 1),
          alert="CodeqLeaseExpirySpiking"),
    panel("Retries", "ops", (rate("codeq_task_retries_total", "command, reason", C), "{{command}} {{reason}}"),
          tells="Tasks that go back for another attempt, by why.", alert="CodeqHighFailureRate"),
    panel("Dead letters", "short", (shared("codeq_dlq_depth", "command", C), "{{command}}"),
          tells="What waits for a person.", steps=(1, 100), alert="CodeqDLQGrowing"),
    panel("Dead-letter rate", "ops", (rate("codeq_task_dead_lettered_total", "command, reason", C), "{{command}} {{reason}}"),
          tells="Tasks that just used up their attempts.", alert="CodeqDLQGrowing"),
    panel("Rate-limit hits", "ops", (rate("codeq_rate_limit_hits_total", "scope, operation"), "{{scope}} {{operation}}"),
          tells="Requests and deliveries that a limit held back.", steps=(0.1, 0.5), alert="CodeqRateLimitSustained"),
    panel("Subscriptions", "short", (shared("codeq_subscriptions_active", "command", C), "{{command}}"),
          tells="Unexpired queue_ready subscriptions."),
    panel("Webhook failures", "percentunit",
          (f"{rate('codeq_webhook_deliveries_total', 'command, kind', where(C, ('outcome', '=', 'failure')))} / "
           f"{rate('codeq_webhook_deliveries_total', 'command, kind', where(C, ('outcome', '=~', 'success|failure')))}",
           "{{command}} {{kind}}"),
          tells="Share of deliveries that were given up.", steps=(0.1, 0.2), alert="CodeqWebhookFailureRate"),
]

COMMAND = [
    panel("Created, claimed, completed", "ops", (rate(CREATED, labels=C), "created"), (rate(CLAIMED, labels=C), "claimed"),
          (rate(COMPLETED, "status", C), "{{status}}"), tells="The flow of this command.", width=12),
    panel("Completed per claim", "percentunit", (f"{rate(COMPLETED, labels=C)} / {rate(CLAIMED, labels=C)}", "completed/claimed"),
          tells="1 when every claim ends its task; below it, work is done more than once.", steps=(0.9, 0.95), rising=True,
          alert="CodeqHighFailureRate", width=12),
    heat("Queue wait", "s", WAIT, "From ready to claimed.", alert="CodeqPickupSlow"),
    heat("Execution", "s", EXECUTION, "From claim to submit or nack."),
    quantiles("Execution", EXECUTION, "How long workers take, by how it ended.", by="outcome", labels=C),
    heat("Attempts", "short", "codeq_task_attempts", "Attempts that ended tasks had taken.", alert="CodeqHighFailureRate"),
    panel("Failure ratio", "percentunit",
          (f"{rate(COMPLETED, labels=where(C, ('status', '=', 'FAILED')))} / {rate(COMPLETED, labels=C)}", "failed"),
          tells="Failed over all ended.", steps=(0.05, 0.1), alert="CodeqHighFailureRate"),
    panel("Retries", "ops", (rate("codeq_task_retries_total", "reason", C), "{{reason}}"),
          tells="Back for another attempt, by why.", alert="CodeqLeaseExpirySpiking"),
    panel("Returns", "ops", (rate("codeq_task_returned_total", "reason", C), "{{reason}}"),
          tells="Handed back without using an attempt: abandoned, or the worker was gone before the answer."),
    panel("Idempotent replays", "ops", (rate("codeq_task_idempotent_replays_total", labels=C), "replays"),
          tells="Creates that met their own earlier task."),
    panel("Cancelled", "ops", (rate("codeq_task_cancelled_total", labels=C), "cancelled"), tells="Taken back by producers."),
    panel("Dead letters", "short", (shared("codeq_dlq_depth", labels=C), "in the DLQ"), tells="What waits for a person.",
          steps=(1, 100), alert="CodeqDLQCritical"),
    panel("DLQ moves", "ops", (rate("codeq_dlq_moved_total", "kind", C), "{{kind}}"),
          (rate("codeq_task_dead_lettered_total", "reason", C), "in: {{reason}}"),
          tells="In by reason; out by requeue, purge or age.", alert="CodeqDLQGrowing"),
    panel("Paused", "bool_on_off", (shared("codeq_queue_paused", "command", C), "{{command}}"),
          tells="1 while an operator holds the queue.", alert="CodeqNoTasksClaimed"),
]

ROUTES = "codeq_http_request_work_seconds"
API = [
    panel("Requests", "reqps", (rate("codeq_http_requests_total", "route, code"), "{{route}} {{code}}"),
          tells="By route and answer.", width=12),
    panel("Error ratio", "percentunit",
          (f"({rate('codeq_http_requests_total', labels=where(J, ('code', '=~', '5..')))} or vector(0)) / "
           f"{rate('codeq_http_requests_total')}", "5xx"),
          tells="Answers that were our failure.", steps=(0.001, 0.01), alert="CodeqApiErrorBudgetBurn", width=12),
    quantiles("Work time", ROUTES, "Time in the broker, without deliberate waiting.", by="route", steps=(0.1, 0.2),
              alert="CodeqApiSlow", width=12),
    quantiles("Long polls, wall time p99", "codeq_http_request_duration_seconds",
              "With waiting: near waitSeconds when nothing is to be had.", by="route",
              labels=J + ',route=~".*(claim|result)"', qs=(0.99,), width=12),
    panel("In flight", "short", ('sum(codeq_http_requests_in_flight{' + J + '}) by (instance)', "{{instance}}"),
          tells="Requests being answered now."),
    panel("Waiters", "short", ('sum(codeq_waiters{' + J + '}) by (kind)', "{{kind}}"),
          tells="Long polls that wait for a task or a result.", alert="CodeqWorkerCapacityLow"),
    panel("Wake-ups", "ops", (rate("codeq_wakeups_total", "kind, source"), "{{kind}} {{source}}"),
          tells="Source poll well above 0: messages between nodes are lost.", alert="CodeqWakeupSlow"),
    quantiles("Wake-up latency p95", "codeq_wakeup_latency_seconds", "Ready until the waiter was answered.",
              by="kind, source", qs=(0.95,), steps=(0.01, 0.02), alert="CodeqWakeupSlow"),
    panel("Claims that succeed", "percentunit",
          (f"1 - ({rate('codeq_store_operations_total', labels=where(J, ('operation', '=', 'claim'), ('result', '=~', 'conflict|error')))} / "
           f"{rate('codeq_store_operations_total', labels=where(J, ('operation', '=', 'claim'), ('result', '!=', 'not_found')))})", "won"),
          tells="Claims that met ready work and got it. Low: many workers race for few tasks.",
          steps=(0.9, 0.95), rising=True, alert="CodeqClaimContention"),
    panel("429", "reqps", (rate("codeq_http_requests_total", "route", J + ',code="429"'), "{{route}}"),
          tells="Requests that a rate limit refused.", alert="CodeqRateLimitSustained"),
    panel("Refused tokens", "reqps", (rate("codeq_auth_failures_total", "kind, reason"), "{{kind}} {{reason}}"),
          tells="A jump in expired or unknown_kid: keys were changed.", steps=(1, 5), alert="CodeqAuthFailuresHigh"),
    panel("Age of the key sets", "s", ("time() - max by (kind) (codeq_jwks_last_success_timestamp_seconds{" + J + "} > 0)", "{{kind}}"),
          tells="Since a key set was last fetched.", steps=(1800, 3600), alert="CodeqJwksStale"),
]

WEBHOOKS = [
    panel("Attempts", "reqps", (rate("codeq_webhook_attempts_total", "kind, result"), "{{kind}} {{result}}"),
          tells="Calls to receivers by how they ended.", alert="CodeqWebhookFailureRate"),
    quantiles("Attempt duration", "codeq_webhook_duration_seconds", "One call, up to the status line. The receivers' speed.",
              by="kind", qs=(0.5, 0.99)),
    panel("Deliveries", "ops", (rate("codeq_webhook_deliveries_total", "kind, outcome", C), "{{kind}} {{outcome}}"),
          tells="Deliveries that ended, once each.", alert="CodeqWebhookFailureRate"),
    panel("Outbox", "short", (shared("codeq_webhook_outbox_depth", "state"), "{{state}}"),
          tells="Pending: due or being retried. Parked: their destination is left alone. Dead: given up.",
          alert="CodeqWebhookDeadLetters"),
    panel("Oldest due", "s", (shared("codeq_webhook_outbox_oldest_age_seconds"), "oldest"),
          tells="Our own lateness: due and not parked.", steps=(60, 300), alert="CodeqWebhookOutboxStalled"),
    panel("Given up", "ops", (rate("codeq_webhook_dead_total", "reason"), "{{reason}}"),
          tells="By why. poison: a delivery that nodes could not survive.", alert="CodeqWebhookPoison"),
    panel("In flight", "short", ('sum(codeq_webhook_in_flight{' + J + '}) by (kind)', "{{kind}}"), tells="Calls under way."),
    panel("Destinations", "short", (shared("codeq_webhook_destinations", "state"), "{{state}}"),
          tells="Open: failing, tried by a probe. Disabled: failing for days, a person must look.",
          alert="CodeqWebhookDestinationDisabled"),
    quantiles("Terminal → accepted", TOLD, "From a task's end until its producer has been told.", labels=C, qs=(0.5, 0.99)),
    panel("Attempts to success", "short",
          (quantile(0.5, "codeq_webhook_attempts_to_success"), "p50"), (quantile(0.99, "codeq_webhook_attempts_to_success"), "p99"),
          tells="Above 1: receivers that fail at first."),
    panel("Webhook slots: wait p99", "s",
          (quantile(0.99, "codeq_wait_seconds", "kind", J + ',kind=~"webhook_slot|webhook_host_slot|outbox_claim"'), "{{kind}}"),
          tells="Deliveries that wait for room on the node or for their host."),
    panel("Since a node last delivered", "s", ("time() - max(codeq_outbox_last_success_timestamp_seconds{" + J + "} > 0)", "fleet"),
          tells="Age of the last look at the outbox without an error.", alert="CodeqWebhookOutboxStalled"),
]

OPS = "codeq_store_operation_duration_seconds"
STORE = [
    panel("Operations", "ops", (rate("codeq_store_operations_total", "operation"), "{{operation}}"),
          tells="Items handed to scripts."),
    quantiles("Script time", OPS, "Sending to answer, by script.", by="operation", qs=(0.5, 0.99), steps=(0.05, 0.1),
              alert="CodeqStoreSlow"),
    panel("Mean script time", "s", (f"{rate(OPS + '_sum')} / {rate(OPS + '_count')}", "mean"),
          tells="Target 3 ms, alert above 5 ms.", steps=(0.003, 0.005), alert="CodeqStoreMeanSlow"),
    panel("Errors", "ops", (rate("codeq_store_errors_total", "reason"), "{{reason}}"),
          tells="Calls that failed, by why.", alert="CodeqStoreErrors"),
    quantiles("Batch size", "codeq_store_batch_size", "Items that travelled in one call.", by="operation", qs=(0.5, 0.95),
              unit="short"),
    panel("Pool use", "percentunit",
          ('sum(codeq_store_pool_connections{' + J + ',state="in_use"}) by (instance) / '
           'sum(codeq_store_pool_connections{' + J + ',state="max"}) by (instance)', "{{instance}}"),
          tells="The pool for rare work, not the multiplexed links of the hot path.", steps=(0.8, 0.9),
          alert="CodeqStorePoolSaturated"),
    quantiles("Waits p99", "codeq_wait_seconds", "Where work stands still inside a node.", by="kind", qs=(0.99,)),
    panel("Up", "bool_yes_no", ('codeq_store_up{' + J + '}', "{{instance}}"),
          tells="1: the node's last ping was answered.", alert="CodeqStoreDown"),
    panel("Store circuit", "ops", (rate("codeq_store_errors_total", labels=J + ',reason="circuit_open"'), "refused"),
          tells="Calls that were not even tried, since Redis did not answer.", alert="CodeqStoreErrors"),
    panel("Redis memory", "bytes", ('max by (state) (codeq_store_memory_bytes{' + J + '})', "{{state}}"),
          tells="Of the fullest primary. At max nothing is taken in any more.", alert="CodeqStoreMemoryHigh"),
    panel("Cache hits", "percentunit",
          (f"{rate('codeq_cache_requests_total', 'kind', where(J, ('result', '=', 'hit')))} / "
           f"{rate('codeq_cache_requests_total', 'kind')}", "{{kind}}"),
          tells="Look-ups that needed no trip.", steps=(0.5, 0.9), rising=True, alert="CodeqCacheMisses"),
    panel("Artifact operations", "ops", (rate("codeq_artifact_operations_total", "operation, result"), "{{operation}} {{result}}"),
          tells="On the object store.", alert="CodeqArtifactErrors"),
    panel("Artifact bytes", "Bps", (rate("codeq_artifact_bytes_total", "operation"), "{{operation}}"), tells="Stored and deleted."),
    quantiles("Artifact time p99", "codeq_artifact_duration_seconds", "One operation on one object.", by="operation", qs=(0.99,)),
    panel("Sweeper runs", "ops", (rate("codeq_sweep_runs_total", "outcome"), "{{outcome}}"),
          tells="Sweeps over all nodes.", alert="CodeqSweeperStalled"),
    quantiles("Sweep duration", "codeq_sweep_duration_seconds", "One pass.", qs=(0.5, 0.99)),
    panel("Since the last sweep", "s", ("time() - max(codeq_sweep_last_success_timestamp_seconds{" + J + "} > 0)", "fleet"),
          tells="Any node suffices.", steps=(15, 30), alert="CodeqSweeperStalled"),
    panel("Moved by the sweeper", "ops", (rate("codeq_sweep_moved_total", "kind"), "{{kind}}"),
          tells="Delayed tasks that became ready, leases that ran out, records whose time is over."),
    ("row", "Redis itself, by redis_exporter"),
    panel("Commands", "ops", ('sum(rate(redis_commands_processed_total{job=~"$redis"}[$__rate_interval]))', "commands"),
          tells="What Redis does in all."),
    panel("AOF and replication", "short", ('redis_aof_last_write_status{job=~"$redis"}', "AOF write ok"),
          ('redis_connected_slaves{job=~"$redis"}', "replicas"), tells="Durability of the store."),
    panel("Slow log", "short", ('redis_slowlog_length{job=~"$redis"}', "entries"),
          tells="Entries in Redis' slow log."),
]

NODES = [
    panel("CPU", "percentunit", ('rate(process_cpu_seconds_total{' + J + '}[$__rate_interval])', "{{instance}}"), tells="Cores in use."),
    panel("Memory", "bytes", ('process_resident_memory_bytes{' + J + '}', "{{instance}} resident"),
          ('codeq_memory_bytes{' + J + ',state="limit"}', "{{instance}} limit"),
          tells="Resident against the limit of the container.", alert="CodeqMemoryGrowth"),
    panel("Allocator", "bytes", ('sum(codeq_memory_bytes{' + J + ',state!="limit"}) by (state)', "{{state}}"),
          tells="What jemalloc holds; retained is address space, not memory."),
    panel("Open files", "percentunit", ('process_open_fds{' + J + '} / process_max_fds{' + J + '}', "{{instance}}"),
          tells="Connections mostly.", steps=(0.6, 0.8), alert="CodeqFdExhaustion"),
    panel("Starts", "short", ('changes(process_start_time_seconds{' + J + '}[30m])', "{{instance}}"),
          tells="Restarts in half an hour.", steps=(2, 3), alert="CodeqInstanceFlapping"),
    panel("Versions", "short", ('count by (version, revision) (codeq_build_info{' + J + '})', "{{version}} {{revision}}"),
          tells="Two versions for long: a rollout stopped half way.", kind="table", alert="CodeqVersionSkew"),
    panel("Runtime busy", "percentunit",
          ('rate(codeq_runtime_worker_busy_seconds_total{' + J + '}[$__rate_interval]) / codeq_runtime_workers{' + J + '}', "{{instance}}"),
          tells="Share of time in which the runtime's threads worked.", steps=(0.8, 0.95)),
    panel("Alive tasks", "short", ('codeq_runtime_alive_tasks{' + J + '}', "{{instance}}"), tells="Connections, waiters, loops."),
    panel("Runtime queue", "short", ('codeq_runtime_global_queue_depth{' + J + '}', "{{instance}}"), tells="Tasks that wait for a thread."),
    quantiles("Scheduling delay p99", "codeq_runtime_scheduling_delay_seconds", "How late the runtime runs what is due.",
              by="instance", qs=(0.99,), steps=(0.05, 0.1), alert="CodeqSchedulingDelay"),
    panel("Loops", "short", ('sum(codeq_loops_active{' + J + '}) by (kind)', "{{kind}}"), tells="Background loops that run."),
    panel("Loop errors and restarts", "ops", (rate("codeq_loop_errors_total", "kind"), "{{kind}} errors"),
          (rate("codeq_loop_restarts_total", "kind"), "{{kind}} restarts"), tells="Each has a log line."),
    panel("Log lines", "ops", (rate("codeq_log_lines_total", "level"), "{{level}}"), tells="By level."),
    panel("Lost telemetry", "ops", (rate("codeq_log_lines_dropped_total"), "log lines"), (rate("codeq_otel_spans_dropped_total"), "spans"),
          (rate("codeq_otel_export_total", "outcome", J + ',outcome="failure"'), "failed exports"),
          tells="What was not kept, because its reader was slow or away.", alert="CodeqTraceExportFailing"),
    panel("Label overflow", "ops", (rate("codeq_metrics_label_overflow_total", "label"), "{{label}}"),
          tells="Counts that went to _other, since there are more commands than metrics.maxCommands.",
          alert="CodeqMetricLabelOverflow"),
    panel("Draining", "bool_on_off", ('codeq_draining{' + J + '}', "{{instance}}"), tells="1 while a node finishes its work."),
    panel("Queue gauges", "bool_yes_no", ('codeq_scrape_collector_success{' + J + '}', "{{instance}}"),
          ('codeq_scrape_collector_duration_seconds{' + J + '}', "{{instance}} seconds"),
          tells="Whether the last scrape could read the queues.", alert="CodeqCollectorFailing"),
]

PAIRS = (("1h", "5m", 14.4), ("6h", "30m", 6), ("1d", "2h", 3), ("3d", "6h", 1))


def budget(kind, share):
    return f"1 - (avg_over_time({burn('1h', kind)}[30d]) / {share})"


SLO = [
    stat("Availability budget left", "percentunit", budget("error", 0.001), "Of 0.1 % over 30 days.",
         alert="CodeqApiErrorBudgetBurn", steps=(0, 0.25), rising=True, width=6),
    stat("Latency budget left", "percentunit", budget("slow", 0.01), "Of 1 % over 30 days.",
         alert="CodeqApiLatencyBudgetBurn", steps=(0, 0.25), rising=True, width=6),
    stat("Availability now", "percentunit", f"1 - {burn('5m', 'error')}", "Requests without a 5xx, 5 minutes.",
         alert="CodeqApiErrorBudgetBurn", steps=(0.99, 0.999), rising=True, width=6),
    stat("Within 250 ms now", "percentunit", f"1 - {burn('5m', 'slow')}", "Requests whose work took at most 250 ms, 5 minutes.",
         alert="CodeqApiLatencyBudgetBurn", steps=(0.95, 0.99), rising=True, width=6),
] + [
    panel(f"{name}: {long} and {short}", "percentunit", (burn(long, kind), long), (burn(short, kind), short),
          (f"vector({factor * share:g})", f"{factor} × budget"),
          tells="Fires while both windows are above the line.", steps=(factor * share,),
          alert=alert, width=12)
    for name, kind, share, alert in (("Errors", "error", 0.001, "CodeqApiErrorBudgetBurn"),
                                     ("Slow", "slow", 0.01, "CodeqApiLatencyBudgetBurn"))
    for long, short, factor in PAIRS
]

MEAN_WAIT = f"{rate(WAIT + '_sum', labels=C)} / {rate(LIFE + '_sum', labels=C)}"
EXPERIENCE = [
    stat("Feedback p50", "s", quantile(0.5, LIFE, labels=C), "From creation to result, half of the tasks.", steps=(0.5, 1)),
    stat("Feedback p95", "s", quantile(0.95, LIFE, labels=C), "From creation to result, 19 of 20.", steps=(1, 2.5),
         alert="CodeqTaskCompletionSlow"),
    stat("Told p50", "s", quantile(0.5, TOLD, labels=C), "From the end until the webhook was accepted."),
    stat("Told p95", "s", quantile(0.95, TOLD, labels=C), "The same, 19 of 20.", steps=(1, 10)),
    stat("Success, 24 h", "percentunit", SUCCESS_24H, "Share of ended tasks that did not fail.", steps=(0.95, 0.99), rising=True,
         alert="CodeqLowSuccessRate"),
    stat("Commands", "short", f"count({shared('codeq_queue_depth', 'command', READY)})", "Commands in the registry."),
    stat("Created today", "short", rate(CREATED, window="1d", fn="increase"), "Tasks of the last 24 hours."),
    heat("Time to result", "s", LIFE, "Where the mass lies, and the tail."),
    panel("Slowest commands, p95", "s", (f"topk(5, {quantile(0.95, LIFE, 'command', C)})", "{{command}}"),
          tells="The five whose users wait longest.", kind="bargauge", width=12, alert="CodeqTaskLatencyP99High"),
    # OpenMetrics writes the bound 1 as 1.0.
    panel("More than one attempt", "percentunit",
          (f"1 - ({rate('codeq_task_attempts_bucket', labels=where(C, ('le', '=~', '1|1.0')))} / "
           f"{rate('codeq_task_attempts_count', labels=C)})", "retried"),
          tells="Share of ended tasks that needed another try.", steps=(0.05, 0.2)),
    panel("Share of the time spent waiting", "percentunit", (MEAN_WAIT, "waiting"),
          tells="Queue wait over the whole life. High: more workers help; low: faster work does.", alert="CodeqPickupSlow"),
    panel("Worker seconds", "s", (rate(EXECUTION + "_sum", "command", C), "{{command}}"),
          tells="Seconds of work per second: workers that the command keeps busy."),
]

BOARDS = {
    "codeq-overview": ("codeq / Overview", "What is there to do, is it done, is anything wrong.", OVERVIEW),
    "codeq-command": ("codeq / Command", "One command from all sides.", COMMAND),
    "codeq-api": ("codeq / API", "The HTTP surface: rates, time, waiting, refusals.", API),
    "codeq-webhooks": ("codeq / Webhooks", "Whether producers are told, and which receivers do not listen.", WEBHOOKS),
    "codeq-store": ("codeq / Store", "Redis as the nodes see it, artifacts, the sweeper.", STORE),
    "codeq-nodes": ("codeq / Nodes", "Processes: CPU, memory, runtime, their own telemetry.", NODES),
    "codeq-slo": ("codeq / SLO", "What is left of the error budgets and how fast it burns.", SLO),
    "codeq-experience": ("codeq / Experience", "What producers and their users feel.", EXPERIENCE),
}


def explore(source, query):
    panes = {"codeq": {"datasource": source, "queries": [query], "range": {"from": "${__from}", "to": "${__to}"}}}
    keep = quote(json.dumps(panes, separators=(",", ":")), safe="${}_.")
    return f"/explore?schemaVersion=1&orgId=1&panes={keep}"


LOGS = explore("${logs}", {"refId": "A", "expr": '{service="codeq"} | json | context_command=~"${command:regex}"'})
TRACES = explore("${traces}", {"refId": "A", "queryType": "traceql", "query": '{ span.codeq.command =~ "${command:regex}" }'})


def links(uid):
    boards = [{"type": "dashboards", "title": "codeq", "tags": ["codeq"], "asDropdown": True, "includeVars": True,
               "keepTime": True, "icon": "external link", "targetBlank": False}]
    jumps = [("Logs of $command", LOGS), ("Traces of $command", TRACES), ("Runbooks", RUNBOOKS)]
    return boards + [{"type": "link", "title": title, "url": url, "icon": "doc", "targetBlank": True, "keepTime": False}
                     for title, url in jumps]


def query_variable(name, label, query, multi=True, all_value=".*"):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": {"query": query, "refId": name},
            "definition": query, "refresh": 2, "sort": 1, "multi": multi, "includeAll": multi,
            **({"allValue": all_value, "current": {"text": "All", "value": "$__all"}} if multi else {})}


def source_variable(name, label, kind):
    return {"name": name, "label": label, "type": "datasource", "query": kind, "refresh": 1, "hide": 0, "multi": False}


def runbooks_variable():
    """Where docs/runbooks.md is served, which differs from house to house."""
    at = "docs/runbooks.md"
    return {"name": "runbooks", "label": "Runbooks", "type": "textbox", "query": at, "hide": 2,
            "current": {"text": at, "value": at}, "options": [{"text": at, "value": at, "selected": True}]}


def variables(uid):
    several = uid != "codeq-command"
    chosen = [
        source_variable("datasource", "Metrics", "prometheus"),
        source_variable("logs", "Logs", "loki"),
        source_variable("traces", "Traces", "tempo"),
        query_variable("namespace", "Namespace", "label_values(codeq_build_info, namespace)"),
        query_variable("job", "Job", 'label_values(codeq_build_info{namespace=~"$namespace"}, job)'),
        query_variable("instance", "Instance", 'label_values(codeq_build_info{namespace=~"$namespace",job=~"$job"}, instance)'),
        query_variable("command", "Command", 'label_values(codeq_queue_depth{namespace=~"$namespace",job=~"$job"}, command)',
                       multi=several),
    ]
    chosen.append(runbooks_variable())
    if uid == "codeq-store":
        chosen.append(query_variable("redis", "redis_exporter", "label_values(redis_up, job)"))
    return chosen


def thresholds(one):
    first, *colours = ("red", "orange", "green") if one.get("rising") else ("green", "orange", "red")
    if len(one["steps"]) == 1:
        colours = colours[-1:]
    steps = [{"color": first, "value": None}]
    return {"mode": "absolute", "steps": steps + [{"color": c, "value": v} for c, v in zip(colours, one["steps"])]}


def options(kind):
    legend = {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"], "showLegend": True}
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    return {
        "timeseries": {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}},
        "stat": {"reduceOptions": reduce, "graphMode": "area", "colorMode": "value", "textMode": "value",
                 "showPercentChange": True, "justifyMode": "auto", "orientation": "auto"},
        "heatmap": {"calculate": False, "cellGap": 1, "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
                    "yAxis": {"unit": "s"}, "legend": {"show": True}, "tooltip": {"mode": "single", "yHistogram": True},
                    "filterValues": {"le": 1e-9}, "exemplars": {"color": "rgba(255,0,255,0.7)"}},
        "bargauge": {"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "gradient", "showUnfilled": True},
        "table": {"showHeader": True},
    }[kind]


def rendered(one, number, x, y):
    kind, alert = one["kind"], one["alert"]
    tells = one["tells"] + (f"\n\nAlert: [{alert}]({RUNBOOKS}#{alert.lower()})" if alert else "")
    field = {"unit": one["unit"], "thresholds": thresholds(one)}
    if kind == "timeseries":
        marks = "line" if one["steps"] else "off"
        field["custom"] = {"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": False,
                           "thresholdsStyle": {"mode": marks}}
    ways = [("Logs", LOGS), ("Traces", TRACES)] + ([(f"Runbook: {alert}", f"{RUNBOOKS}#{alert.lower()}")] if alert else [])
    made = {
        "id": number, "type": kind, "title": one["title"], "description": tells, "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": one["width"], "h": one["height"]},
        "fieldConfig": {"defaults": field, "overrides": []}, "options": options(kind),
        "links": [{"title": title, "url": url, "targetBlank": True} for title, url in ways],
        "targets": [],
    }
    if kind == "heatmap":
        made["options"]["yAxis"] = {"unit": one["unit"]}
    for at, (expr, legend) in enumerate(one["targets"]):
        target = {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expr, "legendFormat": legend,
                  "editorMode": "code", "range": kind not in ("table", "bargauge"), "instant": kind in ("table", "bargauge")}
        if kind in ("heatmap", "table"):
            target["format"] = kind
        if one.get("exemplar"):
            target["exemplar"] = True
        made["targets"].append(target)
    return made


def board(uid):
    title, tells, panels = BOARDS[uid]
    made, x, y, tallest = [], 0, 0, 0
    for number, one in enumerate(panels, 1):
        if isinstance(one, tuple):
            y, x, tallest = y + tallest, 0, 0
            made.append({"id": number, "type": "row", "title": one[1], "collapsed": False, "panels": [],
                         "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
            y += 1
            continue
        if x + one["width"] > 24:
            x, y, tallest = 0, y + tallest, 0
        made.append(rendered(one, number, x, y))
        x, tallest = x + one["width"], max(tallest, one["height"])
    deploys = ('count by (version) (codeq_build_info{job=~"$job",namespace=~"$namespace"}) unless '
               'count by (version) (codeq_build_info{job=~"$job",namespace=~"$namespace"} offset 5m)')
    alerts = 'ALERTS{alertname=~"Codeq.*",alertstate="firing"}'
    notes = [
        {"name": "Deploys", "datasource": SOURCE, "enable": True, "iconColor": "blue", "expr": deploys,
         "titleFormat": "version {{version}}", "step": "60s"},
        {"name": "Alerts", "datasource": SOURCE, "enable": True, "iconColor": "red", "expr": alerts,
         "titleFormat": "{{alertname}} {{command}}", "step": "60s"},
    ]
    return {
        "uid": uid, "title": title, "description": tells, "tags": ["codeq"], "editable": False, "schemaVersion": 39,
        "version": 1, "refresh": "30s", "time": {"from": "now-3h", "to": "now"}, "timezone": "browser", "graphTooltip": 1,
        "links": links(uid), "templating": {"list": variables(uid)}, "annotations": {"list": notes}, "panels": made,
    }


def main():
    check, stale = "--check" in sys.argv, []
    OUT.mkdir(exist_ok=True)
    for uid in BOARDS:
        path, text = OUT / f"{uid}.json", json.dumps(board(uid), indent=2, ensure_ascii=False) + "\n"
        if check and (not path.exists() or path.read_text() != text):
            stale.append(path.name)
        elif not check:
            path.write_text(text)
    unknown = {path.stem for path in OUT.glob("*.json")} - set(BOARDS)
    if stale or unknown:
        sys.exit(f"dashboards: stale {stale}, unknown {sorted(unknown)}: run scripts/dashboards.py")


if __name__ == "__main__":
    main()
