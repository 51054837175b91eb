{{/* Everything of one workload of a service. Takes root, service and instance ("" for the only one). */}}
{{- define "sightline.service" -}}
{{- $root := .root -}}
{{- $facts := index (include "sightline.facts" . | fromYaml) .service -}}
{{- $block := include "sightline.block" . | fromYaml -}}
{{- $component := include "sightline.component" . -}}
{{- $config := include "sightline.config" (dict "root" .root "service" .service "instance" .instance "block" $block) | fromYaml -}}
{{- $name := printf "%s-%s" (include "sightline.fullname" .root) $component -}}
{{- $kept := and $facts.state $block.persistence.enabled -}}
{{- $_ := set $block.persistence "enabled" $kept -}}
{{- $about := dict "root" .root "service" .service "instance" .instance "component" $component "block" $block "config" $config "facts" $facts -}}
{{- if not $block.existingConfigSecret }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}
  labels:
    {{- include "sightline.labels" $about | nindent 4 }}
data:
  config.yaml: |
    {{- toYaml $config | nindent 4 }}
---
{{- end }}
{{- if $block.serviceAccount.create }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "sightline.serviceAccountName" $about }}
  labels:
    {{- include "sightline.labels" $about | nindent 4 }}
  {{- with $block.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
{{- end }}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "sightline.labels" $about | nindent 4 }}
  {{- with $block.service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $block.service.type }}
  selector:
    {{- include "sightline.selector" $about | nindent 4 }}
  ports:
    - {name: ops, port: 9100, targetPort: ops}
    {{- if $facts.grpc }}
    - {name: grpc, port: 50051, targetPort: grpc}
    {{- end }}
    {{- if eq .service "dashboard" }}
    - {name: web, port: 8080, targetPort: web}
    {{- end }}
    {{- range $block.service.extraPorts }}
    - {name: {{ .name }}, port: {{ .port }}, targetPort: {{ .name }}, protocol: {{ .protocol | default "TCP" }}}
    {{- end }}
---
apiVersion: apps/v1
kind: {{ ternary "StatefulSet" "Deployment" (not (empty $facts.state)) }}
metadata:
  name: {{ $name }}
  labels:
    {{- include "sightline.labels" $about | nindent 4 }}
spec:
  {{- if not $block.autoscaling.enabled }}
  replicas: {{ $block.replicas }}
  {{- end }}
  {{- if $facts.state }}
  serviceName: {{ $name }}
  {{- if $kept }}
  volumeClaimTemplates:
    {{- include "sightline.claim" $block | nindent 4 }}
  {{- end }}
  {{- else }}
  # The new one is ready before an old one is asked to go.
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  {{- end }}
  selector:
    matchLabels:
      {{- include "sightline.selector" $about | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "sightline.labels" $about | nindent 8 }}
        {{- with $block.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # Another configuration is another pod.
        checksum/config: {{ toYaml $config | sha256sum }}
        {{- with $block.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "sightline.serviceAccountName" $about }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ include "sightline.grace" $about }}
      securityContext:
        {{- include "sightline.podSecurity" . | nindent 8 }}
      {{- include "sightline.placement" $about | nindent 6 }}
      containers:
        {{- include "sightline.container" $about | nindent 8 }}
      volumes:
        {{- include "sightline.volumes" $about | nindent 8 }}
{{- include "sightline.around" $about }}
{{- end -}}

{{/* What surrounds a workload: disruption budget, scaling, network policy, scraping. */}}
{{- define "sightline.around" -}}
{{- $root := .root -}}
{{- $name := printf "%s-%s" (include "sightline.fullname" .root) .component }}
{{- if .block.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels:
    {{- include "sightline.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .block.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "sightline.selector" . | nindent 6 }}
{{- end }}
{{- if .block.autoscaling.enabled }}
{{- include "sightline.scaling" . }}
{{- end }}
{{- if $root.Values.networkPolicy.enabled }}
{{- include "sightline.policy" . }}
{{- end }}
{{- if $root.Values.monitoring.serviceMonitor.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ $name }}
  labels:
    {{- include "sightline.labels" . | nindent 4 }}
    {{- with $root.Values.monitoring.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  jobLabel: app.kubernetes.io/component
  selector:
    matchLabels:
      {{- include "sightline.selector" . | nindent 6 }}
  endpoints:
    - port: ops
      path: /metrics
      interval: {{ $root.Values.monitoring.intervalSeconds }}s
      {{- if $root.Values.tls.enabled }}
      scheme: https
      tlsConfig:
        serverName: {{ $name }}.{{ $root.Release.Namespace }}.svc
        ca:
          secret: {name: {{ include "sightline.tlsSecret" . }}, key: ca.crt}
      {{- end }}
{{- end }}
{{- if and $root.Values.tls.enabled $root.Values.tls.certManager.enabled (not .block.tls.existingSecret) }}
{{- $names := list $name (printf "%s.%s.svc" $name $root.Release.Namespace) (printf "%s.%s.svc.cluster.local" $name $root.Release.Namespace) }}
{{- if eq .component "triton" }}
{{- $names = concat $names (list (printf "*.%s.%s.svc" $name $root.Release.Namespace) "localhost") }}
{{- end }}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ $name }}
  labels:
    {{- include "sightline.labels" . | nindent 4 }}
spec:
  secretName: {{ include "sightline.tlsSecret" . }}
  commonName: {{ $name }}
  dnsNames:
    {{- toYaml (concat $names (.block.tls.extraNames | default list)) | nindent 4 }}
  {{- if eq .component "triton" }}
  ipAddresses: [127.0.0.1]
  {{- end }}
  # Each service is a server and, to its peers, a client.
  usages: [digital signature, key encipherment, server auth, client auth]
  duration: {{ $root.Values.tls.certManager.durationHours }}h
  renewBefore: {{ $root.Values.tls.certManager.renewBeforeHours }}h
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  issuerRef:
    {{- toYaml $root.Values.tls.certManager.issuerRef | nindent 4 }}
{{- end }}
{{- end -}}

{{- define "sightline.scaling" -}}
{{- $root := .root -}}
{{- $name := printf "%s-%s" (include "sightline.fullname" .root) .component }}
{{- $by := .block.autoscaling }}
{{- if and (eq $by.kind "keda") .facts.scaled }}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ $name }}
  labels:
    {{- include "sightline.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    name: {{ $name }}
  minReplicaCount: {{ $by.minReplicas }}
  maxReplicaCount: {{ $by.maxReplicas }}
  pollingInterval: {{ $by.pollingSeconds }}
  cooldownPeriod: {{ $by.cooldownSeconds }}
  triggers:
    - type: kafka
      metadata:
        bootstrapServers: {{ .config.kafka.bootstrap_servers | quote }}
        consumerGroup: {{ .config.kafka.group | default .service }}
        topic: {{ .facts.scaled }}
        lagThreshold: {{ $by.lagThreshold | quote }}
        # More members than partitions would stand idle.
        allowIdleConsumers: "false"
        sasl: {{ ternary (.config.kafka.sasl_mechanism | default "PLAIN" | lower | replace "-" "_" | replace "scram_sha_" "scram_sha" | replace "plain" "plaintext") "none" (hasPrefix "SASL" (.config.kafka.security_protocol | default "PLAINTEXT")) }}
        tls: {{ ternary "enable" "disable" (hasSuffix "SSL" (.config.kafka.security_protocol | default "PLAINTEXT")) }}
      {{- if or $root.Values.kafka.existingSecret $root.Values.kafka.caSecret $root.Values.kafka.certificateSecret }}
      authenticationRef:
        name: {{ $name }}-kafka
      {{- end }}
{{- if or $root.Values.kafka.existingSecret $root.Values.kafka.caSecret $root.Values.kafka.certificateSecret }}
---
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata:
  name: {{ $name }}-kafka
  labels:
    {{- include "sightline.labels" . | nindent 4 }}
spec:
  secretTargetRef:
    {{- with $root.Values.kafka.existingSecret }}
    - {parameter: username, name: {{ . }}, key: {{ $root.Values.kafka.usernameKey }}}
    - {parameter: password, name: {{ . }}, key: {{ $root.Values.kafka.passwordKey }}}
    {{- end }}
    {{- with $root.Values.kafka.caSecret }}
    - {parameter: ca, name: {{ . }}, key: ca.crt}
    {{- end }}
    {{- with $root.Values.kafka.certificateSecret }}
    - {parameter: cert, name: {{ . }}, key: tls.crt}
    - {parameter: key, name: {{ . }}, key: tls.key}
    {{- end }}
{{- end }}
{{- else }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  labels:
    {{- include "sightline.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ $name }}
  minReplicas: {{ $by.minReplicas }}
  maxReplicas: {{ $by.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ $by.targetCpuPercent }}}
  behavior:
    scaleDown: {stabilizationWindowSeconds: {{ $by.cooldownSeconds }}}
{{- end }}
{{- end -}}
