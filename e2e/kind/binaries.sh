#!/usr/bin/env bash
# binaries.sh PROGRAM...: makes sure that the named programs are in the cache, compiling those that are missing from the
# Go module proxy, and prints the folder that holds them. `go install program@version` refuses modules with replace
# lines (Kubernetes, etcd, cri-tools), so these have a small module each in the folders beside this script.
set -euo pipefail
cd "$(dirname "$0")"
STAGE=${STAGE:-binaries}
# shellcheck source-path=SCRIPTDIR
. ./common.sh

version_of() { # the version that the cache must hold, as written in common.sh or a go.mod
  case $1 in
    kube-apiserver | kube-controller-manager | kube-scheduler | kube-proxy | kubeadm | kubectl | kubelet) echo "$KUBERNETES_VERSION" ;;
    etcd) awk '$1 == "require" && $2 ~ /etcd\/server/ || $1 ~ /etcd\/server\/v3$/ {print $NF; exit}' etcd/go.mod ;;
    crictl) awk '$2 ~ /cri-tools$/ {print $3; exit} $1 ~ /cri-tools$/ {print $2; exit}' crictl/go.mod ;;
    otel-collector) awk '$1 ~ /collector\/otelcol$/ {print $2; exit}' otel-collector/go.mod ;;
    coredns) echo "$COREDNS_VERSION" ;;
    kind) echo "$KIND_VERSION" ;;
    helm) echo "$HELM_VERSION" ;;
    local-path-provisioner) echo "$LOCAL_PATH_VERSION" ;;
    *) fail "unknown program '$1'" ;;
  esac
}

compile() { # program version
  local package stamp="-s -w" output=$BIN/$1
  case $1 in
    etcd) (cd etcd && go build -ldflags "$stamp" -o "$output" go.etcd.io/etcd/server/v3) ;;
    crictl) (cd crictl && go build -ldflags "$stamp" -o "$output" sigs.k8s.io/cri-tools/cmd/crictl) ;;
    otel-collector) (cd otel-collector && go build -ldflags "$stamp" -o "$output" .) ;;
    coredns) go install -ldflags "$stamp" "github.com/coredns/coredns@$2" ;;
    kind) go install -ldflags "$stamp" "sigs.k8s.io/kind@$2" ;;
    helm) go install -ldflags "$stamp -X helm.sh/helm/v3/internal/version.version=$2" "helm.sh/helm/v3/cmd/helm@$2" ;;
    local-path-provisioner) go install -ldflags "$stamp" "github.com/rancher/local-path-provisioner@$2" ;;
    *)
      # Programs built from source do not know their version; kubeadm and clients compare it.
      for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        stamp+=" -X $package.gitVersion=$2 -X $package.gitMajor=1 -X $package.gitMinor=34"
      done
      (cd kubernetes && go build -ldflags "$stamp" -o "$output" "k8s.io/kubernetes/cmd/$1")
      ;;
  esac
}

missing() { # those of the named programs that the cache lacks in the right version
  local program version
  for program in "$@"; do
    version=$(version_of "$program")
    [[ -n $version ]] || fail "no version of $program found: see common.sh"
    [[ -x $BIN/$program && -e $BIN/.$program-$version ]] || echo "$program $version"
  done
}

todo=$(missing "$@")
if [[ -n $todo ]]; then
  one_at_a_time binaries
  todo=$(missing "$@") # another run may have made them meanwhile
fi
if [[ -n $todo ]]; then
  need_go
  export CGO_ENABLED=0 GOBIN=$BIN GOFLAGS="-trimpath -buildvcs=false"
  STEPS=$(wc -l <<<"$todo")
  while read -r program version; do
    step "compiling $program $version"
    compile "$program" "$version" </dev/null >"$CACHE/compile-$program.log" 2>&1 ||
      { tail -n 30 "$CACHE/compile-$program.log" >&2; fail "could not compile $program $version; the whole output is in $CACHE/compile-$program.log"; }
    rm -f "$BIN/.$program-"*
    touch "$BIN/.$program-$version"
  done <<<"$todo"
  say "done"
fi
echo "$BIN"
