# The chores of backy2. `make` alone lists them.

SHELL := /bin/bash
PREFIX ?= /usr/local
DESTDIR ?=
TARGET_FOLDER := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help demo test test-s3 test-boot test-vm test-long model sim fuzz torture bench lint check build install

help: ## list the chores
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## back up a real disk image, change it, back up again, restore, compare
	@scripts/demo.sh

test: ## run the tests; ends with "N passed, N failed, N skipped"
	@scripts/test.sh

test-boot: ## boot a Debian from its backup over NBD, and move it while it runs (minutes)
	@scripts/test-boot.sh

test-vm: ## try what needs a kernel of its own, in a VM (minutes)
	@scripts/test-vm.sh

test-s3: ## run the tests of s3:// against a real Ceph RGW, which it starts
	@scripts/test-s3.sh

test-long: ## run all tests, the long ones too (hours)
	@scripts/test.sh --long

model: ## walk through the protocol between jobs, in large scenarios; minutes, some GiB
	cargo test --release --package backy2-model --test protocol -- --ignored --nocapture --test-threads 1

sim: ## simulate many hosts on one repository: SEED=... JOBS=... (a fresh seed, 2000 jobs)
	@BACKY2_SIM_SEED=$(SEED) BACKY2_SIM_JOBS=$(JOBS) cargo test --release --locked --package backy2-engine --test sim \
	  -- --ignored --exact --nocapture one_seed_for_long

fuzz: ## give every decoder arbitrary bytes, with cargo-fuzz; SECONDS=... for each (60)
	@for target in $$(cargo fuzz list); do \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run $$target -- -max_total_time=$(or $(SECONDS),60) || exit 1; done

torture: ## kill real processes at random for ten minutes; SEED=… SECONDS=… choose
	@BACKY2_TORTURE_SECONDS=$(or $(SECONDS),600) $(if $(SEED),BACKY2_SEED=$(SEED)) \
	  cargo test --package backy2 --test torture -- --nocapture --exact nothing_published_is_lost_whatever_runs_and_dies_beside_it

bench: ## measure against the floors of this machine and installed peers
	@scripts/bench/run.sh

lint: ## formatting, clippy, house rules, documentation, licences
	@scripts/lint.sh

check: lint test ## everything that must be green before a commit

build: ## build the program with optimisation
	cargo build --release --locked --package backy2

install: build ## install to $(PREFIX)/bin
	install -D -m 0755 $(TARGET_FOLDER)/release/backy2 $(DESTDIR)$(PREFIX)/bin/backy2
