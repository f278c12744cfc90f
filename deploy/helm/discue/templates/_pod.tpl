{{- define "discue.labels" -}}
app.kubernetes.io/name: discue
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "discue.selector" -}}
app.kubernetes.io/name: discue
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* What the schema of the values forbids, too: `helm --skip-schema-validation` must not corrupt anything. */ -}}
{{- define "discue.guard" -}}
{{- if eq .Values.store "sqlite" }}
{{- if ne (int .Values.replicas) 1 }}{{ fail "SQLite takes exactly one server: set replicas to 1, or store to postgresql." }}{{ end }}
{{- if .Values.autoscaling.enabled }}{{ fail "SQLite takes exactly one server: autoscaling needs store: postgresql." }}{{ end }}
{{- else if not .Values.postgresql.url }}{{ fail "store: postgresql needs postgresql.url." }}
{{- end }}
{{- if and .Values.metrics.enabled (not .Values.secret) }}{{ fail "metrics need a secret with the key DISCUE_METRICS_KEY." }}{{ end }}
{{- if and (or .Values.metrics.serviceMonitor .Values.metrics.rules .Values.autoscaling.enabled) (not .Values.metrics.enabled) }}
{{- fail "serviceMonitor, rules and autoscaling need metrics.enabled." }}
{{- end }}
{{- end }}

{{- define "discue.pod" -}}
metadata:
  labels:
    {{- include "discue.labels" . | nindent 4 }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # Longer than drain_timeout_seconds: requests in flight finish.
  terminationGracePeriodSeconds: {{ add (int (.Values.settings.drain_timeout_seconds | default 20)) 40 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- if eq .Values.store "postgresql" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "discue.selector" . | nindent 10 }}
  {{- end }}
  containers:
    - name: discue
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      env:
        - name: DISCUE_DATABASE
          value: {{ ternary "sqlite:////data/discue.db" .Values.postgresql.url (eq .Values.store "sqlite") | quote }}
        # TLS ends at the ingress. Settings with tls_cert and tls_key end it here.
        {{- if not .Values.settings.tls_cert }}
        - name: DISCUE_INSECURE
          value: "true"
        {{- end }}
        {{- if .Values.metrics.enabled }}
        - name: DISCUE_METRICS_HOST
          value: "0.0.0.0"
        - name: DISCUE_METRICS_PORT
          value: "9464"
        {{- end }}
        {{- if and .Values.ingress.enabled (eq .Values.service.type "ClusterIP") (not (hasKey .Values.settings "trusted_proxies")) }}
        - name: DISCUE_TRUSTED_PROXIES
          value: {{ .Values.ingress.proxies | quote }}
        {{- end }}
        {{- range $name, $value := .Values.settings }}
        - name: DISCUE_{{ upper $name }}
          value: {{ $value | toString | quote }}
        {{- end }}
      {{- with .Values.secret }}
      envFrom:
        - secretRef:
            name: {{ . }}
      {{- end }}
      ports:
        - name: http
          containerPort: 3000
        {{- if .Values.metrics.enabled }}
        - name: metrics
          containerPort: 9464
        {{- end }}
      # A start waits for the database as long as it takes: only a process that does not respond is restarted.
      livenessProbe:
        httpGet:
          path: /health/live
          port: http
          scheme: {{ ternary "HTTPS" "HTTP" (not (empty .Values.settings.tls_cert)) }}
        initialDelaySeconds: 30
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /health/ready
          port: http
          scheme: {{ ternary "HTTPS" "HTTP" (not (empty .Values.settings.tls_cert)) }}
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 1
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /data
        - name: tmp
          mountPath: /tmp
  volumes:
    - name: tmp
      emptyDir: {}
    {{- if eq .Values.store "postgresql" }}
    - name: data
      emptyDir: {}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
