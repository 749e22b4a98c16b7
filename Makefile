# Everything one can do here. `make dev` and `make test` are all a newcomer needs: both install
# what is missing (into .tools, see scripts/tools.sh) and say so.
SHELL := bash
export PATH := $(CURDIR)/.tools/bin:$(HOME)/.cargo/bin:$(PATH)
LUA = $(shell find lua -name '*.lua' 2>/dev/null)
SH = $(shell git ls-files '*.sh' .ci/run)
.DEFAULT_GOAL := help
.PHONY: help dev test check soak verify bench otel-e2e fmt tools lint unit

help: ## list what one can do
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1@\2/p' Makefile | while IFS=@ read -r a b; do printf '  make %-8s %s\n' "$$a" "$$b"; done

dev: ## a running broker, with a private redis-server, data in ./.codeq
	@scripts/tools.sh dev
	cargo run --locked -- dev

test: check ## everything but the slow tests; what CI runs
	cargo nextest run --locked
	cargo test --locked --doc -q
	scripts/alerts.sh
	scripts/schemathesis.sh
	scripts/helm.sh

check: tools lint unit ## formatting, lints, licences, unit tests: minutes

soak: check ## every test, the slow ones too
	cargo nextest run --locked --profile soak
	cargo test --locked --doc -q
	scripts/alerts.sh
	scripts/schemathesis.sh
	scripts/helm.sh

verify: ## drive a node through every surface; target/verify/report.md says which signals were seen
	cargo build --locked
	python3 scripts/verify.py

bench: ## build for speed and measure: HTTP calls, Redis time, batches
	@scripts/tools.sh dev
	scripts/bench.sh

otel-e2e: ## the release binary against a collector that is not ours, over gRPC and HTTP
	@scripts/tools.sh cc rust redis python curl jq rotel
	scripts/otel-e2e.sh

fmt: tools ## format Rust and Lua in place
	cargo fmt
	$(if $(LUA),stylua $(LUA))

tools: ## install the tools that are missing
	@scripts/tools.sh

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -q -- -D warnings
	cargo deny --locked check licenses bans sources
	scripts/advisories.sh
	$(if $(LUA),luacheck -q $(LUA) && stylua --check $(LUA))
	shellcheck $(SH)
	scripts/alerts.sh lint
	PYTHONDONTWRITEBYTECODE=1 .tools/venv/bin/python tests/dashboards/test_boards.py
	scripts/helm.sh lint

unit:
	cargo nextest run --locked --lib --no-tests=pass
