{{/* One egress rule: to these peers (all if there are none) at these ports. */}}
{{- define "sightline.to" -}}
- ports:
    {{- range .ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "sightline.dns" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
  to:
    - namespaceSelector: {}
      podSelector:
        matchLabels:
          k8s-app: kube-dns
{{- end -}}

{{/* Peers of a service in this release, every instance of it. */}}
{{- define "sightline.peer" -}}
- podSelector:
    matchExpressions:
      - key: app.kubernetes.io/component
        operator: In
        values:
          {{- range include "sightline.instances" (dict "root" .root "service" .service) | fromYamlArray }}
          - {{ include "sightline.component" (dict "service" $.service "instance" .) }}
          {{- end }}
    matchLabels:
      app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{/* What one workload may say and hear; everything else is refused by the policy for all pods. */}}
{{- define "sightline.policy" -}}
{{- $root := .root -}}
{{- $self := .service -}}
{{- $all := include "sightline.facts" . | fromYaml -}}
{{- $net := .root.Values.networkPolicy }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "sightline.fullname" .root }}-{{ .component }}
  labels:
    {{- include "sightline.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "sightline.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    {{- if $net.prometheus }}
    - ports:
        - {port: 9100, protocol: TCP}
        {{- if eq .component "triton" }}
        - {port: 8002, protocol: TCP}
        {{- end }}
      from:
        {{- toYaml $net.prometheus | nindent 8 }}
    {{- end }}
    {{- if and $root.Values.dashboard.enabled (ne $self "dashboard") (ne $self "serving") }}
    - ports:
        - {port: 9100, protocol: TCP}
      from:
        {{- include "sightline.peer" (dict "root" $root "service" "dashboard") | nindent 8 }}
    {{- end }}
    {{- range $name, $facts := $all }}
    {{- if and (has $self (values $facts.peers)) (index $root.Values $name).enabled }}
    - ports:
        - {port: 50051, protocol: TCP}
      from:
        {{- include "sightline.peer" (dict "root" $root "service" $name) | nindent 8 }}
    {{- end }}
    {{- end }}
    {{- if eq .component "triton" }}
    {{- range $name := list "detector" "explainer" }}
    {{- if (index $root.Values $name).enabled }}
    - ports:
        - {port: 8001, protocol: TCP}
      from:
        {{- include "sightline.peer" (dict "root" $root "service" $name) | nindent 8 }}
    {{- end }}
    {{- end }}
    {{- if $root.Values.trainer.enabled }}
    - ports:
        - {port: 50051, protocol: TCP}
      from:
        {{- include "sightline.peer" (dict "root" $root "service" "trainer") | nindent 8 }}
    {{- end }}
    {{- end }}
    {{- if and (eq $self "dashboard") $root.Values.ingress.enabled }}
    - ports:
        - {port: 8080, protocol: TCP}
      from:
        {{- toYaml $net.ingressController | nindent 8 }}
    {{- end }}
    {{- range .block.service.extraPorts }}
    - ports:
        - {port: {{ .port }}, protocol: {{ .protocol | default "TCP" }}}
      from:
        {{- range .from }}
        - ipBlock: {cidr: {{ . }}}
        {{- end }}
    {{- end }}
    {{- with .block.networkPolicy.extraIngress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  egress:
    {{- include "sightline.dns" . | nindent 4 }}
    {{- include "sightline.to" $net.kafka | nindent 4 }}
    {{- if has "objectStore" .facts.needs }}
    {{- include "sightline.to" $net.objectStore | nindent 4 }}
    {{- end }}
    {{- if or (has "index" .facts.needs) (has "accounts" .facts.needs) }}
    {{- include "sightline.to" $net.postgres | nindent 4 }}
    {{- end }}
    {{- if and (has "triton" .facts.needs) $root.Values.triton.enabled }}
    - ports:
        - {port: 8001, protocol: TCP}
      to:
        - podSelector:
            matchLabels:
              {{- include "sightline.selector" (dict "root" $root "component" "triton") | nindent 14 }}
    {{- end }}
    {{- if and (eq $self "trainer") $root.Values.triton.enabled }}
    - ports:
        - {port: 50051, protocol: TCP}
      to:
        - podSelector:
            matchLabels:
              {{- include "sightline.selector" (dict "root" $root "component" "triton") | nindent 14 }}
    {{- end }}
    {{- range $group, $peer := .facts.peers }}
    {{- if (index $root.Values $peer).enabled }}
    - ports:
        - {port: 50051, protocol: TCP}
      to:
        {{- include "sightline.peer" (dict "root" $root "service" $peer) | nindent 8 }}
    {{- end }}
    {{- end }}
    {{- if eq $self "dashboard" }}
    {{- range $name := list "ingest" "detector" "outcome" "explainer" "feedback" "trainer" }}
    {{- if (index $root.Values $name).enabled }}
    - ports:
        - {port: 9100, protocol: TCP}
      to:
        {{- include "sightline.peer" (dict "root" $root "service" $name) | nindent 8 }}
    {{- end }}
    {{- end }}
    {{- end }}
    {{- with .block.networkPolicy.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
