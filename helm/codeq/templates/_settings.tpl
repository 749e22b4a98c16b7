{{/* Refuses what contradicts itself, by name. Everything that is about one value alone is in
values.schema.json. */}}
{{- define "codeq.check" -}}
{{- $v := .Values }}
{{- if and $v.autoscaling.enabled $v.keda.enabled }}
{{- fail "autoscaling.enabled and keda.enabled are both true: each would undo what the other does" }}
{{- end }}
{{- range $scaler, $limits := dict "autoscaling" $v.autoscaling "keda" $v.keda }}
{{- if and $limits.enabled (lt (int $limits.maxReplicas) (int $limits.minReplicas)) }}
{{- fail (printf "%s.maxReplicas is less than %s.minReplicas" $scaler $scaler) }}
{{- end }}
{{- end }}
{{- with $v.keda }}
{{- if and .enabled (not .prometheus.serverAddress) (gt (int .prometheus.readyTasksPerNode) 0) }}
{{- fail "keda.prometheus.readyTasksPerNode needs keda.prometheus.serverAddress" }}
{{- end }}
{{- end }}
{{- $places := list }}
{{- if $v.redis.url }}{{ $places = append $places "redis.url" }}{{ end }}
{{- if $v.redis.bundled.enabled }}{{ $places = append $places "redis.bundled.enabled" }}{{ end }}
{{- if $v.secrets.redisUrl }}{{ $places = append $places "secrets.redisUrl" }}{{ end }}
{{- if gt (len $places) 1 }}
{{- fail (printf "%s are set: Redis is in one place" (join " and " $places)) }}
{{- end }}
{{- if not (or $places (and $v.existingSecret (or (not $v.existingSecretKeys) (has "redisUrl" $v.existingSecretKeys)))) }}
{{- fail "redis.url is required: where Redis is. For a trial: redis.bundled.enabled=true and secrets.redisPassword" }}
{{- end }}
{{- if $v.existingSecret }}
{{- range $key, $value := $v.secrets }}
{{- if $value }}
{{- fail (printf "secrets.%s has no effect beside existingSecret: put it there" $key) }}
{{- end }}
{{- end }}
{{- if eq (include "codeq.urlHasPassword" $v.redis.url) "yes" }}
{{- fail "redis.url holds a password and the chart makes no Secret beside existingSecret: put it there as redisUrl" }}
{{- end }}
{{- else if $v.existingSecretKeys }}
{{- fail "existingSecretKeys has no effect without existingSecret" }}
{{- end }}
{{- if and $v.redis.bundled.enabled (not $v.secrets.redisPassword) (not $v.existingSecret) }}
{{- fail "redis.bundled.enabled needs secrets.redisPassword, for example $(openssl rand -hex 16)" }}
{{- end }}
{{- if and $v.redis.bundled.enabled $v.existingSecretKeys (not (has "redisPassword" $v.existingSecretKeys)) }}
{{- fail "redis.bundled.enabled needs redisPassword among existingSecretKeys" }}
{{- end }}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) }}
{{- fail "ingress.enabled needs ingress.hosts" }}
{{- end }}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) }}
{{- fail "httpRoute.enabled needs httpRoute.parentRefs: the gateway" }}
{{- end }}
{{- if and $v.otel.endpoint $v.otel.hostPort }}
{{- fail "otel.endpoint and otel.hostPort are both set: spans go to one place" }}
{{- end }}
{{- if and $v.tests.existingSecret (or $v.tests.producerToken $v.tests.workerToken) }}
{{- fail "tests.existingSecret stands in place of tests.producerToken and tests.workerToken" }}
{{- end }}
{{- if and (not $v.tests.existingSecret) (ne (empty $v.tests.producerToken) (empty $v.tests.workerToken)) }}
{{- fail "tests.producerToken and tests.workerToken: one is missing" }}
{{- end }}
{{- $drain := int (include "codeq.drainSeconds" .) }}
{{- if $v.terminationGracePeriodSeconds }}
{{- $least := add $drain (int (include "codeq.sleepSeconds" .)) }}
{{- if lt (int64 $v.terminationGracePeriodSeconds) $least }}
{{- fail (printf "terminationGracePeriodSeconds is less than preStop.sleepSeconds + config.shutdown.drainSeconds = %d: nodes would be killed" $least) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "codeq.urlHasPassword" -}}
{{- if regexMatch "://[^/?#]*@|[?&](pass|password)=" . }}yes{{ end }}
{{- end }}

{{- define "codeq.redisUrl" -}}
{{- if .Values.redis.bundled.enabled }}
{{- printf "redis://%s-redis:6379" (include "codeq.fullname" .) }}
{{- else if ne (include "codeq.urlHasPassword" .Values.redis.url) "yes" }}
{{- .Values.redis.url }}
{{- end }}
{{- end }}

{{/* The file that CODEQ_CONFIG names: `config`, and where Redis is. */}}
{{- define "codeq.config" -}}
{{- $config := deepCopy .Values.config }}
{{- with include "codeq.redisUrl" . }}
{{- $config = mergeOverwrite $config (dict "redis" (dict "url" .)) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* What the chart's Secret holds, as a map. */}}
{{- define "codeq.secrets" -}}
{{- $held := dict }}
{{- range $key, $value := .Values.secrets }}
{{- if $value }}{{ $_ := set $held $key $value }}{{ end }}
{{- end }}
{{- if eq (include "codeq.urlHasPassword" .Values.redis.url) "yes" }}
{{- $_ := set $held "redisUrl" .Values.redis.url }}
{{- end }}
{{- toYaml $held }}
{{- end }}

{{- define "codeq.secretName" -}}
{{- default (include "codeq.fullname" .) .Values.existingSecret }}
{{- end }}

{{/* Secrets as variables, by key. */}}
{{- define "codeq.secretEnv" -}}
{{- $root := . }}
{{- $variables := dict "webhookHmacSecret" "WEBHOOK_HMAC_SECRET" "redisUrl" "REDIS_URL" "redisPassword" "REDIS_PASSWORD" "producerAuthConfig" "PRODUCER_AUTH_CONFIG" "workerAuthConfig" "WORKER_AUTH_CONFIG" "webhookOpsUrl" "WEBHOOK_OPS_URL" "webhookProxyUrl" "WEBHOOK_PROXY_URL" }}
{{- $keys := keys $variables }}
{{- $optional := false }}
{{- if not .Values.existingSecret }}
{{- $keys = keys (include "codeq.secrets" . | fromYaml) }}
{{- else if .Values.existingSecretKeys }}
{{- $keys = .Values.existingSecretKeys }}
{{- else }}
{{- $optional = true }}
{{- end }}
{{- range $key := $keys | sortAlpha }}
- name: {{ get $variables $key }}
  valueFrom:
    secretKeyRef:
      name: {{ include "codeq.secretName" $root }}
      key: {{ $key }}
      {{- if $optional }}
      optional: true
      {{- end }}
{{- end }}
{{- end }}

{{- define "codeq.port" -}}
{{- default 8080 .Values.config.port }}
{{- end }}

{{- define "codeq.drainSeconds" -}}
{{- default 25 (dig "shutdown" "drainSeconds" nil .Values.config) }}
{{- end }}

{{/* The native sleep is on by default since Kubernetes 1.30. */}}
{{- define "codeq.sleepSeconds" -}}
{{- if and (not .Values.lifecycle) (semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version) }}
{{- .Values.preStop.sleepSeconds }}
{{- else }}0{{ end }}
{{- end }}

{{/* Sleep, orderly stop, 5 s in which spans flush, 5 s of margin. */}}
{{- define "codeq.graceSeconds" -}}
{{- if .Values.terminationGracePeriodSeconds }}
{{- .Values.terminationGracePeriodSeconds }}
{{- else }}
{{- add (include "codeq.drainSeconds" .) (include "codeq.sleepSeconds" .) 10 }}
{{- end }}
{{- end }}

{{- define "codeq.scaledByOthers" -}}
{{- if or .Values.autoscaling.enabled .Values.keda.enabled }}yes{{ end }}
{{- end }}

{{/* The least nodes there are. */}}
{{- define "codeq.leastNodes" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.minReplicas }}
{{- else if .Values.keda.enabled }}{{ .Values.keda.minReplicas }}
{{- else }}{{ .Values.replicaCount }}{{ end }}
{{- end }}

{{- define "codeq.hasTest" -}}
{{- if or .Values.tests.existingSecret .Values.tests.producerToken }}yes{{ end }}
{{- end }}
