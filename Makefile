# Every habit of this repository; `make` alone lists them. All of them go through the pinned Bun (scripts/bootstrap.sh).

BUN := node_modules/.bin/bun
BIOME := node_modules/.bin/biome
# Suites that mount images, boot a bus or run for long: `make test` runs them, `make check` does not.
SLOW := --path-ignore-patterns='tests/conformance/**' --path-ignore-patterns='tests/recovery/**' \
        --path-ignore-patterns='tests/service/**' --path-ignore-patterns='tests/desktop/**'

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{ printf "  %-14s %s\n", $$1, $$2 }'

.PHONY: check
check: lint types generated check-tests ## Everything that must hold in every commit: format, lint, types, generated files, fast tests

.PHONY: lint
lint: ## Format and lint, changing nothing
	@$(BIOME) ci --error-on-warnings .

.PHONY: types
types: ## Type-check
	@$(BUN) check

.PHONY: generated
generated: ## Check that generated files are what their generators write
	@for script in scripts/generate-*.ts; do [ ! -e "$$script" ] || $(BUN) "$$script" --check || exit 1; done

.PHONY: check-tests
check-tests: ## The fast tests
	@$(BUN) test --only-failures --timeout=30000 $(SLOW) tests

.PHONY: format
format: ## Format and apply the linter's safe fixes
	@$(BIOME) check --write .

.PHONY: generate
generate: ## Write the generated files anew
	@for script in scripts/generate-*.ts; do [ ! -e "$$script" ] || $(BUN) "$$script" || exit 1; done
