{{/* Name of the Secret with a component's certificate. */}}
{{- define "sightline.tlsSecret" -}}
{{- .block.tls.existingSecret | default (printf "%s-%s-tls" (include "sightline.fullname" .root) .component) -}}
{{- end -}}

{{/* A value as a variable's text; helm holds numbers of a file as floating point, and would write 3e+07. */}}
{{- define "sightline.text" -}}
{{- ternary . (toJson .) (kindIs "string" .) -}}
{{- end -}}

{{/* Variable that takes its value from a Secret. */}}
{{- define "sightline.secretEnv" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end -}}

{{/* Names, passwords and authorities of Kafka, store and databases. Takes root and needs. */}}
{{- define "sightline.connectionEnv" -}}
{{- with .root.Values.kafka.existingSecret }}
{{ include "sightline.secretEnv" (dict "name" "SIGHTLINE_KAFKA__SASL_USERNAME" "secret" . "key" $.root.Values.kafka.usernameKey) }}
{{ include "sightline.secretEnv" (dict "name" "SIGHTLINE_KAFKA__SASL_PASSWORD" "secret" . "key" $.root.Values.kafka.passwordKey) }}
{{- end }}
{{- if .root.Values.kafka.caSecret }}
- name: SIGHTLINE_KAFKA__SSL_CA_FILE
  value: /etc/sightline/kafka/ca.crt
{{- end }}
{{- if .root.Values.kafka.certificateSecret }}
- name: SIGHTLINE_KAFKA__SSL_CERTIFICATE_FILE
  value: /etc/sightline/kafka-identity/tls.crt
- name: SIGHTLINE_KAFKA__SSL_KEY_FILE
  value: /etc/sightline/kafka-identity/tls.key
{{- end }}
{{- if has "objectStore" .needs }}
{{ include "sightline.secretEnv" (dict "name" "SIGHTLINE_OBJECT_STORE__ACCESS_KEY" "secret" .root.Values.objectStore.existingSecret "key" .root.Values.objectStore.accessKeyKey) }}
{{ include "sightline.secretEnv" (dict "name" "SIGHTLINE_OBJECT_STORE__SECRET_KEY" "secret" .root.Values.objectStore.existingSecret "key" .root.Values.objectStore.secretKeyKey) }}
{{- if .root.Values.objectStore.caSecret }}
- name: SIGHTLINE_OBJECT_STORE__CA_FILE
  value: /etc/sightline/object-store/ca.crt
{{- end }}
{{- end }}
{{- if has "index" .needs }}
{{ include "sightline.secretEnv" (dict "name" "SIGHTLINE_INDEX__URL" "secret" .root.Values.index.existingSecret "key" .root.Values.index.urlKey) }}
{{- end }}
{{- if has "accounts" .needs }}
{{ include "sightline.secretEnv" (dict "name" "SIGHTLINE_ACCOUNTS__URL" "secret" .root.Values.accounts.existingSecret "key" .root.Values.accounts.urlKey) }}
{{- end }}
{{- end -}}

{{- define "sightline.connectionMounts" -}}
{{- if .root.Values.kafka.caSecret }}
- {name: kafka-ca, mountPath: /etc/sightline/kafka, readOnly: true}
{{- end }}
{{- if .root.Values.kafka.certificateSecret }}
- {name: kafka-identity, mountPath: /etc/sightline/kafka-identity, readOnly: true}
{{- end }}
{{- if and .root.Values.objectStore.caSecret (has "objectStore" .needs) }}
- {name: object-store-ca, mountPath: /etc/sightline/object-store, readOnly: true}
{{- end }}
{{- if and .root.Values.databaseCaSecret (or (has "index" .needs) (has "accounts" .needs)) }}
- {name: database-ca, mountPath: /etc/sightline/database, readOnly: true}
{{- end }}
{{- end -}}

{{- define "sightline.connectionVolumes" -}}
{{- with .root.Values.kafka.caSecret }}
- name: kafka-ca
  secret: {secretName: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- with .root.Values.kafka.certificateSecret }}
- name: kafka-identity
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- if has "objectStore" .needs }}
{{- with .root.Values.objectStore.caSecret }}
- name: object-store-ca
  secret: {secretName: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end }}
{{- if or (has "index" .needs) (has "accounts" .needs) }}
{{- with .root.Values.databaseCaSecret }}
- name: database-ca
  secret: {secretName: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
{{- end }}
{{- end }}
{{- end -}}

{{/* The container of one service. Takes root, service, instance, component, block, config and facts. */}}
{{- define "sightline.container" -}}
{{- $scheme := ternary "HTTPS" "HTTP" .root.Values.tls.enabled -}}
- name: {{ .service }}
  image: {{ include "sightline.image" (dict "root" .root "name" .service "image" .block.image) }}
  imagePullPolicy: {{ .block.image.pullPolicy }}
  env:
    - name: SIGHTLINE_CONFIG
      value: /etc/sightline/config/config.yaml
    - name: SIGHTLINE_PLAINTEXT
      value: {{ .root.Values.plaintext }}
    - name: SIGHTLINE_OPS__HOST
      value: 0.0.0.0
    - name: SIGHTLINE_OPS__PORT
      value: "9100"
    {{- if .facts.grpc }}
    - name: SIGHTLINE_GRPC__HOST
      value: 0.0.0.0
    - name: SIGHTLINE_GRPC__PORT
      value: "50051"
    {{- end }}
    {{- if eq .service "dashboard" }}
    - name: SIGHTLINE_WEB__MODE
      value: network
    - name: SIGHTLINE_WEB__HOST
      value: 0.0.0.0
    - name: SIGHTLINE_WEB__PORT
      value: "8080"
    {{- with .block.oidcSecret }}
    {{- include "sightline.secretEnv" (dict "name" "SIGHTLINE_SIGN_IN__OIDC__CLIENT_SECRET" "secret" . "key" "client-secret") | nindent 4 }}
    {{- end }}
    {{- end }}
    {{- if .root.Values.tls.enabled }}
    - name: SIGHTLINE_TLS__CERTIFICATE_FILE
      value: /etc/sightline/tls/tls.crt
    - name: SIGHTLINE_TLS__KEY_FILE
      value: /etc/sightline/tls/tls.key
    - name: SIGHTLINE_TLS__CA_FILE
      value: /etc/sightline/tls/ca.crt
    {{- if .facts.grpc }}
    - name: SIGHTLINE_GRPC__CLIENT_CERTIFICATES
      value: {{ .root.Values.tls.clientCertificates }}
    {{- end }}
    {{- if or (has "triton" .facts.needs) (eq .service "serving") }}
    - name: {{ ternary "SIGHTLINE_TRITON_TLS" "SIGHTLINE_TRITON__TLS" (eq .service "serving") }}
      value: "true"
    {{- end }}
    {{- end }}
    {{- if .facts.grpc }}
    - name: SIGHTLINE_GRPC__TOKENS_FILE
      value: /etc/sightline/tokens/tokens.yaml
    {{- end }}
    {{- if .facts.asks }}
    - name: SIGHTLINE_TOKEN_FILE
      value: /etc/sightline/token/token
    {{- end }}
    {{- include "sightline.connectionEnv" (dict "root" .root "needs" .facts.needs) | nindent 4 }}
    {{- range $name, $value := .block.env }}
    - name: {{ $name }}
      value: {{ include "sightline.text" $value | quote }}
    {{- end }}
  ports:
    - {name: ops, containerPort: 9100}
    {{- if .facts.grpc }}
    - {name: grpc, containerPort: 50051}
    {{- end }}
    {{- if eq .service "dashboard" }}
    - {name: web, containerPort: 8080}
    {{- end }}
    {{- range .block.service.extraPorts }}
    - {name: {{ .name }}, containerPort: {{ .port }}, protocol: {{ .protocol | default "TCP" }}}
    {{- end }}
  # Until the first success nothing else is asked: waiting for Kafka, reading the models topic.
  startupProbe:
    httpGet: {path: /livez, port: ops, scheme: {{ $scheme }}}
    periodSeconds: 5
    failureThreshold: {{ max 1 (div (int .block.startupSeconds) 5) }}
  livenessProbe:
    httpGet: {path: /livez, port: ops, scheme: {{ $scheme }}}
    periodSeconds: 10
    timeoutSeconds: 3
    failureThreshold: 3
  readinessProbe:
    httpGet: {path: /readyz, port: ops, scheme: {{ $scheme }}}
    periodSeconds: 3
    timeoutSeconds: 3
    failureThreshold: 2
  resources:
    {{- toYaml .block.resources | nindent 4 }}
  securityContext:
    {{- include "sightline.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - {name: config, mountPath: /etc/sightline/config, readOnly: true}
    - {name: state, mountPath: /var/lib/sightline}
    - {name: tmp, mountPath: /tmp}
    {{- if eq .service "serving" }}
    - {name: models, mountPath: /models}
    {{- end }}
    {{- if .root.Values.tls.enabled }}
    - {name: tls, mountPath: /etc/sightline/tls, readOnly: true}
    {{- end }}
    {{- if .facts.grpc }}
    - {name: tokens, mountPath: /etc/sightline/tokens, readOnly: true}
    {{- end }}
    {{- if .facts.asks }}
    - {name: token, mountPath: /etc/sightline/token, readOnly: true}
    {{- end }}
    {{- include "sightline.connectionMounts" (dict "root" .root "needs" .facts.needs) | nindent 4 }}
    {{- with .block.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Volumes of that container; `state` comes from the claim where the state must stay. */}}
{{- define "sightline.volumes" -}}
- name: config
  {{- if .block.existingConfigSecret }}
  secret: {secretName: {{ .block.existingConfigSecret }}, defaultMode: 0440}
  {{- else }}
  configMap: {name: {{ include "sightline.fullname" .root }}-{{ .component }}}
  {{- end }}
- name: tmp
  emptyDir: {sizeLimit: {{ .block.tmpSize }}}
{{- if not .block.persistence.enabled }}
- name: state
  emptyDir: {sizeLimit: {{ .block.persistence.size }}}
{{- end }}
{{- if .root.Values.tls.enabled }}
- name: tls
  secret: {secretName: {{ include "sightline.tlsSecret" . }}, defaultMode: 0440}
{{- end }}
{{- if .facts.grpc }}
- name: tokens
  secret: {secretName: {{ .root.Values.tokens.existingSecret }}, items: [{key: tokens.yaml, path: tokens.yaml}]}
{{- end }}
{{- if .facts.asks }}
{{- $own := .block.tokenSecret }}
- name: token
  # Of the Secret with everybody's, a pod sees its own token alone.
  secret: {secretName: {{ $own | default .root.Values.tokens.existingSecret }}, defaultMode: 0440, items: [{key: {{ ternary "token" .service (ne $own "") }}, path: token}]}
{{- end }}
{{- include "sightline.connectionVolumes" (dict "root" .root "needs" .facts.needs) }}
{{- with .block.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What says where a pod may run. Takes root, component and block. */}}
{{- define "sightline.placement" -}}
{{- with .block.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .block.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .block.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .block.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- if .block.topologySpreadConstraints }}
  {{- toYaml .block.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "sightline.selector" . | nindent 8 }}
  {{- end }}
{{- end -}}

{{- define "sightline.claim" -}}
- metadata:
    name: state
  spec:
    accessModes: [{{ .persistence.accessMode }}]
    {{- with .persistence.storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .persistence.size }}
{{- end -}}

{{- define "sightline.serviceAccountName" -}}
{{- if .block.serviceAccount.create -}}
{{- .block.serviceAccount.name | default (printf "%s-%s" (include "sightline.fullname" .root) .component) -}}
{{- else -}}
{{- .block.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}
