{{- define "codeq.env" -}}
- name: CODEQ_CONFIG
  value: /etc/codeq/codeq.yaml
# A node's name in logs, spans and profiles; ServiceMonitor makes it `instance`.
- name: HOSTNAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(HOSTNAME),k8s.node.name=$(NODE_NAME)
    {{- range $name, $value := .Values.otel.resourceAttributes }},{{ $name }}={{ $value }}{{ end }}
{{- if .Values.otel.hostPort }}
- name: HOST_IP
  valueFrom: {fieldRef: {fieldPath: status.hostIP}}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: http://$(HOST_IP):{{ .Values.otel.hostPort }}
{{- else if .Values.otel.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .Values.otel.endpoint | quote }}
{{- end }}
{{- with .Values.otel.protocol }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ . | quote }}
{{- end }}
{{- if dig "limits" "cpu" nil .Values.resources }}
# Otherwise the runtime would make a thread for each core of the machine.
- name: TOKIO_WORKER_THREADS
  valueFrom: {resourceFieldRef: {containerName: codeq, resource: limits.cpu, divisor: "1"}}
{{- end }}
{{- if .Values.pprof.enabled }}
- name: CODEQ_PPROF
  value: "1"
- name: CODEQ_PPROF_ADDR
  value: 127.0.0.1:{{ .Values.pprof.port }}
{{- end }}
{{- include "codeq.secretEnv" . }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
