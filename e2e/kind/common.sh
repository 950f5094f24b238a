# Sourced by the scripts of this folder: versions, the cache, progress lines, and what to do about a missing program.
# shellcheck shell=bash disable=SC2034,SC2154 # variables are used by those who source this

# Kubernetes 1.35 refuses cgroup v1 unless told otherwise, so 1.34 it is. etcd's and crictl's versions are in the go.mod
# files beside this one; tags of component images are the ones that this kubeadm asks for.
KUBERNETES_VERSION=v1.34.4
KIND_VERSION=v0.33.0
HELM_VERSION=v3.22.0
COREDNS_VERSION=v1.12.4
LOCAL_PATH_VERSION=v0.0.30
GO_TOOLCHAIN=go1.26.8 # fetched as a module where only an older Go is installed
NODE_IMAGE=${PENSTOCK_NODE_IMAGE:-kindest/node:$KUBERNETES_VERSION}
BASE_IMAGE=${PENSTOCK_BASE_IMAGE:-debian:bookworm-slim}
CACHE=${PENSTOCK_KIND_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/penstock/kind}
BIN=$CACHE/bin
PATH=$BIN:$PATH
PULL_SECONDS_MAX=${PENSTOCK_PULL_SECONDS_MAX:-300} # of a whole pull; where no registry can be reached it fails at once

shopt -s inherit_errexit
mkdir -p "$BIN"

# Progress goes to stderr, so that a script can hand a result to its caller on stdout.
STAGE=${STAGE:-$(basename "$0" .sh)}
STEP=0
STEPS=0
say() { printf '[%s] %s (%d s)\n' "$STAGE" "$*" "$SECONDS" >&2; }
step() {
  STEP=$((STEP + 1))
  say "$STEP/$STEPS $*"
}
fail() {
  printf '[%s] %s\n' "$STAGE" "$*" >&2
  exit 1
}

root_on_debian() { [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; }

# need PROGRAM:PACKAGE...: installs Debian's package for each program that is not on the PATH; where we may not, it names
# all that are missing in one sentence and fails.
need() {
  local pair programs=() packages=()
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null && continue
    programs+=("${pair%%:*}")
    packages+=("${pair#*:}")
  done
  ((${#programs[@]})) || return 0
  root_on_debian || fail "missing: ${programs[*]}. Install ${packages[*]} (Debian's names), then run this again."
  say "installing ${packages[*]}"
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >"$CACHE/apt.log" 2>&1 ||
    { tail -n 20 "$CACHE/apt.log" >&2; fail "apt-get could not install ${packages[*]}"; }
}

# need_go: a Go that can compile all programs. An older one is enough to fetch the right one, which is a module too.
need_go() {
  need go:golang-go
  local have wanted=${GO_TOOLCHAIN#go} folder
  have=$(go env GOVERSION)
  have=${have#go}
  [[ $(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1) == "$wanted" ]] && return 0
  folder=$CACHE/$GO_TOOLCHAIN
  if [[ ! -x $folder/bin/go ]]; then
    say "fetching $GO_TOOLCHAIN as a module, because Go $have is too old"
    local scratch module
    scratch=$(mktemp -d)
    module=$(cd "$scratch" && go mod init scratch.invalid >/dev/null 2>&1 &&
      GOFLAGS=-mod=mod go mod download -json "golang.org/toolchain@v0.0.1-$GO_TOOLCHAIN.$(go env GOOS)-$(go env GOARCH)" |
      sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    rm -rf "$scratch"
    [[ -n $module ]] || fail "Go $have is too old and $GO_TOOLCHAIN could not be fetched: install Go $wanted or later"
    # Files of a module are not executable; a copy of our own may be.
    cp -r "$module" "$folder.new"
    chmod -R u+w "$folder.new"
    chmod u+x "$folder.new"/bin/* "$folder.new"/pkg/tool/*/*
    mv "$folder.new" "$folder"
  fi
  PATH=$folder/bin:$PATH
  export GOROOT=$folder GOTOOLCHAIN=local
}

# one_at_a_time NAME: waits until no other run of the same kind is at work on the cache.
one_at_a_time() {
  exec 9>"$CACHE/$1.lock"
  flock -n 9 && return 0
  say "waiting for another run that works on $CACHE"
  flock 9
}

have_image() { docker image inspect "$1" >/dev/null 2>&1; }

# pull IMAGE: true when a registry hands it out in time.
pull() {
  say "pulling $1"
  timeout "$PULL_SECONDS_MAX" docker pull -q "$1" >/dev/null 2>"$CACHE/pull.log"
}

# build_image TAG FOLDER: docker build that is silent unless it fails.
build_image() {
  docker build -q -t "$1" "$2" >"$CACHE/docker-build.log" 2>&1 ||
    { cat "$CACHE/docker-build.log" >&2; fail "docker could not build $1"; }
}

# import_debian TAG PACKAGES: a Debian 12 file system with these packages as an image, from the machine's own mirror.
import_debian() {
  local root mirror
  root_on_debian || fail "$1 can be neither pulled nor made: making it needs root on Debian"
  need debootstrap:debootstrap
  # shellcheck disable=SC2016 # apt's own variable
  mirror=$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Origin: Debian" | sort -u | sed -n 1p)
  [[ -n $mirror ]] || fail "apt names no Debian mirror: run apt-get update, then this again"
  root=$(mktemp -d)
  debootstrap --variant=minbase --include="$2" bookworm "$root" "$mirror" >"$CACHE/debootstrap.log" 2>&1 ||
    { tail -n 20 "$CACHE/debootstrap.log" >&2; fail "debootstrap failed; its output is in $CACHE/debootstrap.log"; }
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
  tar -C "$root" -c . | docker import - "$1" >/dev/null
  rm -rf "$root"
}

# kubectl_works: a kubectl new enough for this project's scripts (`wait --for=create` came with 1.31).
kubectl_works() {
  local version
  version=$(kubectl version --client 2>/dev/null | sed -n 's/^Client Version: v1\.\([0-9]*\).*/\1/p')
  [[ -n $version ]] && ((version >= 31))
}
