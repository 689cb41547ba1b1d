# `make help` lists what there is: every target has its `##`.
.DEFAULT_GOAL := help
CARGO ?= cargo

.PHONY: help dev tour deps test lint fmt bench generate ci

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: ## Run a whole Tidegate on this machine: embedded SQLite, seeded people, 127.0.0.1:8420
	$(CARGO) run -- dev

tour: ## Play the whole story against itself and check every step
	$(CARGO) run -- dev --port 0 --tour

deps: ## Install what the tests need and this machine lacks (Debian, Ubuntu)
	@.ci/deps

test: deps ## Run all tests, against real PostgreSQL and OpenSSH servers that they start themselves
	@# Tests wait for servers more than they compute.
	$(CARGO) test --features failpoints --no-fail-fast -- --test-threads 4
	$(CARGO) run --quiet --features failpoints -- policy test --dir policies

lint: ## Check format, lints and documentation
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --features failpoints -- -D warnings
	$(CARGO) clippy -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --no-deps --document-private-items

fmt: ## Format the code
	$(CARGO) fmt

bench: ## Run the benchmarks
	$(CARGO) bench

generate: ## Regenerate docs/openapi.json, cli.md, connectors/*.md, policies/matrix.txt; review the diff
	UPDATE=1 $(CARGO) test --features failpoints --lib -- edge::http::tests cli::reference
	UPDATE=1 $(CARGO) test --features failpoints --test it -- sheets::
	$(CARGO) run --quiet --features failpoints -- policy matrix --dir policies > policies/matrix.txt.new
	mv policies/matrix.txt.new policies/matrix.txt

ci: ## Run what CI runs
	.ci/run
