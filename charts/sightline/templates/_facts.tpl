{{/*
What each service is, as its code says; values cannot change it. Tests hold it against the code.
  needs   which connections its settings have
  state   folder that must stay with the member; its settings name; such a service is a StatefulSet
  peers   services whose gRPC it calls, by the settings group that takes the address
  asks    scopes of its token; none where it calls nobody
  scaled  topic whose lag says that more replicas are needed
*/}}
{{- define "sightline.facts" -}}
ingest:
  needs: [kafka, objectStore]
  grpc: true
  state: {folder: /var/lib/sightline/spool, setting: spool.directory}
  peers: {}
detector:
  needs: [kafka, objectStore, triton]
  grpc: true
  peers: {}
  scaled: sightline.frames.v1
outcome:
  needs: [kafka]
  grpc: true
  state: {folder: /var/lib/sightline/outcome, setting: data}
  peers: {ingest: ingest}
  asks: [ingest.trigger]
explainer:
  needs: [kafka, objectStore, triton]
  grpc: true
  peers: {}
  scaled: sightline.cases.v1
feedback:
  needs: [kafka, objectStore, index]
  grpc: true
  peers: {detector: detector}
  asks: [detector.inspect]
  scaled: sightline.explained.v1
trainer:
  needs: [kafka, objectStore]
  grpc: true
  state: {folder: /var/lib/sightline/training, setting: work}
  peers: {}
  asks: [serving.read]
serving:
  needs: [kafka, objectStore]
  grpc: true
  peers: {}
dashboard:
  needs: [kafka, objectStore, accounts]
  grpc: false
  peers: {explainer: explainer, feedback: feedback, trainer: trainer, outcome: outcome}
  asks: [explainer.explain, feedback.read, feedback.write, trainer.read, trainer.write, outcome.read, outcome.write]
{{- end -}}

{{/* A service's block on top of the defaults, as YAML. Takes root, service and optionally instance. */}}
{{- define "sightline.block" -}}
{{- $block := mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy (index .root.Values .service)) -}}
{{- if .instance -}}
{{- $block = mergeOverwrite $block (deepCopy (index (index .root.Values .service).instances .instance)) -}}
{{- end -}}
{{- toYaml $block -}}
{{- end -}}

{{/* Workloads of a service: one, or one for each of its instances; as YAML list of names. */}}
{{- define "sightline.instances" -}}
{{- $names := keys (index .root.Values .service | dig "instances" dict) | sortAlpha -}}
{{- toYaml (ternary $names (list "") (gt (len $names) 0)) -}}
{{- end -}}

{{- define "sightline.component" -}}
{{ .service }}{{ with .instance }}-{{ . }}{{ end }}
{{- end -}}

{{/* host:port of a service's gRPC; of several instances the one of the same name, else the first. */}}
{{- define "sightline.address" -}}
{{- $names := include "sightline.instances" (dict "root" .root "service" .service) | fromYamlArray -}}
{{- $instance := ternary .instance (first $names) (has .instance $names) -}}
{{ include "sightline.fullname" .root }}-{{ include "sightline.component" (dict "service" .service "instance" $instance) }}.{{ .root.Release.Namespace }}.svc:50051
{{- end -}}

{{/* Comma-separated addresses of every Triton pod at a port: the clients choose among them by themselves. */}}
{{- define "sightline.tritons" -}}
{{- $root := .root -}}
{{- $port := .port -}}
{{- $name := printf "%s-triton" (include "sightline.fullname" .root) -}}
{{- $found := list -}}
{{- range $number := until (int .root.Values.triton.replicas) -}}
{{- $found = append $found (printf "%s-%d.%s.%s.svc:%d" $name $number $name $root.Release.Namespace (int $port)) -}}
{{- end -}}
{{- join "," $found -}}
{{- end -}}

{{/*
What the service reads as its YAML file: what the chart knows, below what the block's `config` says.
Takes root, service, instance and block.
*/}}
{{- define "sightline.config" -}}
{{- $root := .root -}}
{{- $instance := .instance | default "" -}}
{{- $service := .service -}}
{{- $facts := index (include "sightline.facts" . | fromYaml) .service -}}
{{- $config := dict "drain_s" 20 "probe_propagation_s" 5 -}}
{{- $_ := set $config "kafka" (deepCopy $root.Values.kafka.config) -}}
{{- if has "objectStore" $facts.needs -}}
{{- $_ := set $config "object_store" (deepCopy $root.Values.objectStore.config) -}}
{{- end -}}
{{- if and (has "triton" $facts.needs) $root.Values.triton.enabled -}}
{{- $_ := set $config "triton" (dict "urls" (include "sightline.tritons" (dict "root" $root "port" 8001))) -}}
{{- end -}}
{{- with $facts.state -}}
{{- $path := splitList "." .setting -}}
{{- if eq (len $path) 2 -}}
{{- $_ := set $config (first $path) (dict (last $path) .folder) -}}
{{- else -}}
{{- $_ := set $config (first $path) .folder -}}
{{- end -}}
{{- end -}}
{{- range $group, $peer := $facts.peers -}}
{{- if (index $root.Values $peer).enabled -}}
{{/* The feedback service compares models in one replica only: with several, each would ask the detector. */}}
{{- $one := and (eq (int $.block.replicas) 1) (not $.block.autoscaling.enabled) -}}
{{- if or (ne $service "feedback") $one -}}
{{- $_ := set $config $group (dict "address" (include "sightline.address" (dict "root" $root "service" $peer "instance" $instance))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq $service "trainer") $root.Values.triton.enabled -}}
{{- $_ := set $config "serving" (dict "addresses" (include "sightline.tritons" (dict "root" $root "port" 50051))) -}}
{{- end -}}
{{- if eq $service "serving" -}}
{{- $device := ternary "gpu" "cpu" (gt (int $root.Values.triton.gpus) 0) -}}
{{- $config = mergeOverwrite $config (dict "triton_url" "127.0.0.1:8001" "repository" "/models" "data" "/var/lib/sightline/serving" "placement" (dict "device" $device)) -}}
{{- end -}}
{{- if eq $service "dashboard" -}}
{{- $urls := dict -}}
{{- range $name := list "ingest" "detector" "outcome" "explainer" "feedback" "trainer" -}}
{{- if (index $root.Values $name).enabled -}}
{{- range $each := include "sightline.instances" (dict "root" $root "service" $name) | fromYamlArray -}}
{{- $component := include "sightline.component" (dict "service" $name "instance" $each) -}}
{{- $scheme := ternary "https" "http" $root.Values.tls.enabled -}}
{{- $_ := set $urls $component (printf "%s://%s-%s.%s.svc:9100/readyz" $scheme (include "sightline.fullname" $root) $component $root.Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $_ := set $config "components" (dict "urls" $urls) -}}
{{- if $root.Values.ingress.enabled -}}
{{- $_ := set $config "sign_in" (dict "public_url" (printf "https://%s" $root.Values.ingress.host) "trusted_proxies" 1) -}}
{{- end -}}
{{- end -}}
{{- toYaml (mergeOverwrite $config (deepCopy (.block.config | default dict))) -}}
{{- end -}}

{{/* Seconds until Kubernetes may kill: what the service takes at most to drain, and a margin to close its connections. */}}
{{- define "sightline.grace" -}}
{{- add (ceil (addf .config.drain_s .config.probe_propagation_s)) 15 -}}
{{- end -}}

{{/* Refuse values that no line could run with. */}}
{{- define "sightline.checks" -}}
{{- if and (not .Values.tls.enabled) (ne .Values.plaintext "mesh") -}}
{{- fail "tls.enabled must be true, or plaintext must be mesh where a service mesh encrypts between pods: services refuse to send plain text to another machine" -}}
{{- end -}}
{{- if not .Values.kafka.config.bootstrap_servers -}}
{{- fail "kafka.config.bootstrap_servers must name your brokers: host:port,host:port" -}}
{{- end -}}
{{- if not .Values.objectStore.config.endpoint -}}
{{- fail "objectStore.config.endpoint must name your S3 store: host:port" -}}
{{- end -}}
{{- if not .Values.objectStore.existingSecret -}}
{{- fail "objectStore.existingSecret must name the Secret with access-key and secret-key" -}}
{{- end -}}
{{- if and .Values.feedback.enabled (not .Values.index.existingSecret) -}}
{{- fail "index.existingSecret must name the Secret with the PostgreSQL address of the case index; the feedback service needs it" -}}
{{- end -}}
{{- if and .Values.dashboard.enabled (not .Values.accounts.existingSecret) -}}
{{- fail "accounts.existingSecret must name the Secret with the PostgreSQL address of the accounts; the dashboard needs it" -}}
{{- end -}}
{{- if not .Values.tokens.existingSecret -}}
{{- fail "tokens.existingSecret must name the Secret with tokens.yaml and the services' own tokens: without it services refuse to start where others can reach them" -}}
{{- end -}}
{{- if and .Values.tls.certManager.enabled (not .Values.tls.certManager.issuerRef.name) -}}
{{- fail "tls.certManager.issuerRef.name must name the issuer that signs the services' certificates" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.host must be the name that browsers open" -}}
{{- end -}}
{{- range $service := list "ingest" "outcome" -}}
{{- $block := index $.Values $service -}}
{{- if gt (int $block.replicas) 1 -}}
{{- fail (printf "%s.replicas must be at most 1, got %d: each process has cameras or lines of its own; use %s.instances" $service (int $block.replicas) $service) -}}
{{- end -}}
{{- end -}}
{{- end -}}
