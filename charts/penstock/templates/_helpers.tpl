{{/* Everything is named after the release, so that two releases do not meet. */}}
{{- define "penstock.name" -}}
{{- printf "%s-operator" (trunc 50 .Release.Name | trimSuffix "-") -}}
{{- end -}}

{{- define "penstock.selector" -}}
app.kubernetes.io/name: penstock-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "penstock.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* Whether the operator may look at nodes: unless told otherwise, where it watches all namespaces. */}}
{{- define "penstock.readsNodes" -}}
{{- $wish := .Values.readNodes | default "auto" -}}
{{- or (eq $wish "always") (and (eq $wish "auto") (empty .Values.watchNamespaces)) -}}
{{- end -}}

{{/* What the operator may do in the namespaces that it watches. */}}
{{- define "penstock.rules" -}}
# The resources themselves: read and watch them.
- apiGroups: [penstock.io]
  resources: [messageclusters, topics, consumergroups]
  verbs: [get, list, watch]
# What was found out about them.
- apiGroups: [penstock.io]
  resources: [messageclusters/status, topics/status, consumergroups/status]
  verbs: [patch]
# Finalizers of topics and groups whose reclaimPolicy is Delete. MessageClusters get none.
- apiGroups: [penstock.io]
  resources: [topics, consumergroups]
  verbs: [patch]
# Owner references that block the owner's deletion are checked against this where
# OwnerReferencesPermissionEnforcement is on (OpenShift).
- apiGroups: [penstock.io]
  resources: [messageclusters/finalizers]
  verbs: [update]
# The brokers: one StatefulSet per shard. Deleted only to make it anew around its running pods.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
# What brokers need: names, addresses, configuration, an account. Never Secrets.
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# In mode MasterSlave brokers may read and write their shard's Lease: the operator makes the Role for that, and may only give
# what it has itself. It marks a Lease with its cluster, and releases one whose holder has ended; it never makes or deletes one.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, list, watch, create, patch]
# Pods are looked at, and labelled with their broker's role; a restart is an eviction, which disruption budgets can forbid.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
# Volumes: expanded, and marked with the shard that they hold. Deleted where storage.deleteClaim says so and their broker has
# left, and with storage.replaceLost where they were lost with their node.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, patch, delete]
{{- if eq (include "penstock.readsNodes" .) "true" }}
# Pods that were lost with a node can never report that they ended. Only for an operator that sees whether the node is gone.
- apiGroups: [""]
  resources: [pods]
  verbs: [delete]
{{- end }}
# What users read in `kubectl describe`.
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end -}}
