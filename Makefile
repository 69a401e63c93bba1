# Every habit of this repository; `make` alone lists them. All go through the pinned Bun, which scripts/bootstrap.sh brings.

BUN := node_modules/.bin/bun
BIOME := node_modules/.bin/biome
# Suites that mount images, boot a bus or run for long, and *.long.test.ts: `make test` runs them, `make check` does not.
SLOW := --path-ignore-patterns='tests/conformance/**' --path-ignore-patterns='tests/recovery/**' \
        --path-ignore-patterns='tests/service/**' --path-ignore-patterns='tests/desktop/**' \
        --path-ignore-patterns='**/*.long.test.ts'

# For packages: make install DESTDIR=... PREFIX=/usr
PREFIX := /usr/local
DESTDIR :=
# dbus-daemon reads policies from /usr/share and from /etc, and from nowhere else; polkit reads actions from /usr/share only.
POLICYDIR := $(if $(filter /usr,$(PREFIX)),/usr/share/dbus-1/system.d,/etc/dbus-1/system.d)
# zsh keeps a distribution's functions apart from those of programs installed by hand.
ZSHDIR := $(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets
	@echo 'make install also takes DESTDIR= and PREFIX= ($(PREFIX)).'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | sort | expand -t 18

.PHONY: build
build: dist/copyd ## Build dist/copyd, the one binary

SOURCES := $(shell find src patches -type f 2>/dev/null) package.json bun.lock scripts/build.ts
dist/copyd: $(SOURCES)
	@sh scripts/bootstrap.sh start
	@$(BUN) scripts/build.ts

# In a fresh clone too; some ten milliseconds where all is there.
.PHONY: tools
tools:
	@sh scripts/bootstrap.sh start

.PHONY: run
run: ## Copy from the checkout: make run ARGS='SOURCE... DEST' (without: a demonstration)
	@sh scripts/start.sh $(ARGS)

.PHONY: test
test: ## Every test, as npm test
	@sh scripts/test.sh

.PHONY: torture
torture: build ## The recovery suite at length: thousands of kills, an hour and more
	@COPYD_TORTURE=1 sh scripts/test.sh recovery

.PHONY: check
check: lint types generated check-tests ## What holds in every commit: format, lint, types, generated files, fast tests

.PHONY: lint
lint: tools ## Format and lint, changing nothing
	@$(BIOME) ci --error-on-warnings .

.PHONY: types
types: tools ## Type-check
	@$(BUN) check

.PHONY: generated
generated: tools ## Check that generated files are what their generators write
	@for script in scripts/generate-*.ts; do $(BUN) "$$script" --check || exit 1; done

.PHONY: check-tests
check-tests: tools ## The fast tests
	@$(BUN) test --only-failures --timeout=30000 $(SLOW) tests

.PHONY: coverage
coverage: tools ## The fast tests, and which lines they reach (coverage/lcov.info)
	@$(BUN) test --coverage --coverage-reporter=text --coverage-reporter=lcov --timeout=30000 $(SLOW) tests

.PHONY: format
format: tools ## Format and apply the linter's safe fixes
	@$(BIOME) check --write .

.PHONY: generate
generate: tools ## Write the generated files anew
	@for script in scripts/generate-*.ts; do $(BUN) "$$script" || exit 1; done

.PHONY: bench
bench: build ## Side by side with cp and whatever else is installed; QUICK=1: three minutes; ARGS=...: see bench/README.md
	@sh scripts/bootstrap.sh test
	@$(BUN) bench/run.ts $(if $(QUICK),--quick,$(if $(ARGS),,--service)) $(ARGS)

.PHONY: bench-check
bench-check: tools ## Fail where the newest result misses a floor by more than the noise
	@$(BUN) bench/run.ts --check

# What is installed where, as source:destination:mode. uninstall removes exactly these.
FILES := dist/copyd:$(PREFIX)/bin/copyd:755 \
	dbus/org.copyd.Copyd1.conf:$(POLICYDIR)/org.copyd.Copyd1.conf:644 \
	dbus/org.copyd.Copyd1.service:$(PREFIX)/share/dbus-1/system-services/org.copyd.Copyd1.service:644 \
	dbus/session/org.copyd.Copyd1.service:$(PREFIX)/share/dbus-1/services/org.copyd.Copyd1.service:644 \
	dbus/org.copyd.policy:/usr/share/polkit-1/actions/org.copyd.policy:644 \
	dbus/org.copyd.Copyd1.xml:$(PREFIX)/share/dbus-1/interfaces/org.copyd.Copyd1.xml:644 \
	systemd/copyd.service:$(PREFIX)/lib/systemd/system/copyd.service:644 \
	systemd/copyd-resume.service:$(PREFIX)/lib/systemd/system/copyd-resume.service:644 \
	systemd/80-copyd.preset:$(PREFIX)/lib/systemd/system-preset/80-copyd.preset:644 \
	systemd/user/copyd.service:$(PREFIX)/lib/systemd/user/copyd.service:644 \
	systemd/user/copyd-resume.service:$(PREFIX)/lib/systemd/user/copyd-resume.service:644 \
	systemd/user/80-copyd.preset:$(PREFIX)/lib/systemd/user-preset/80-copyd.preset:644 \
	README.md:$(PREFIX)/share/doc/copyd/README.md:644 \
	CHANGELOG.md:$(PREFIX)/share/doc/copyd/CHANGELOG.md:644 \
	LICENSE:$(PREFIX)/share/doc/copyd/LICENSE:644 \
	SECURITY.md:$(PREFIX)/share/doc/copyd/SECURITY.md:644 \
	docs/org.copyd.Copyd1.md:$(PREFIX)/share/doc/copyd/org.copyd.Copyd1.md:644 \
	docs/copyd.toml:$(PREFIX)/share/doc/copyd/copyd.toml:644 \
	man/copyd.1:$(PREFIX)/share/man/man1/copyd.1:644 \
	man/copyd.conf.5:$(PREFIX)/share/man/man5/copyd.conf.5:644 \
	man/org.copyd.Copyd1.5:$(PREFIX)/share/man/man5/org.copyd.Copyd1.5:644 \
	man/copyd.8:$(PREFIX)/share/man/man8/copyd.8:644 \
	completions/copyd.bash:$(PREFIX)/share/bash-completion/completions/copyd:644 \
	completions/_copyd:$(PREFIX)/share/zsh/$(ZSHDIR)/_copyd:644 \
	completions/copyd.fish:$(PREFIX)/share/fish/vendor_completions.d/copyd.fish:644

.PHONY: install
install: dist/copyd ## Install the binary, the bus's files, the units and the documents
	@set -e; done=install; if [ -e '$(DESTDIR)$(PREFIX)/lib/systemd/system/copyd-resume.service' ]; then done=upgrade; fi; \
	for entry in $(FILES); do \
	  source=$${entry%%:*}; rest=$${entry#*:}; destination=$(DESTDIR)$${rest%:*}; \
	  install -D -m "$${rest##*:}" "$$source" "$$destination"; \
	  case $$source in *.service) sed -i 's#/usr/bin/copyd#$(PREFIX)/bin/copyd#' "$$destination" ;; esac; \
	done; \
	sh scripts/reload-service.sh '$(DESTDIR)' $$done

.PHONY: uninstall
uninstall: ## Remove exactly what install put there (jobs' history in /var/lib/copyd stays)
	@for entry in $(FILES); do rest=$${entry#*:}; rm -f "$(DESTDIR)$${rest%:*}"; done
	@rmdir "$(DESTDIR)$(PREFIX)/share/doc/copyd" 2>/dev/null || true
	@sh scripts/reload-service.sh '$(DESTDIR)' uninstall

.PHONY: clean
clean: ## Remove what was built and measured
	@rm -rf dist coverage
