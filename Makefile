# The verbs of this project; `make` alone prints them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
# Molecule scenarios: one per role, `default` is the whole site.
SCENARIOS := $(patsubst molecule/%/molecule.yml,%,$(wildcard molecule/*/molecule.yml))
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# The tests start Ansible and our programs a thousand times: compiling all modules anew each time, where the environment
# says so, was a tenth of what they compute.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## print the verbs
	@echo "Usage: make VERB"; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Older than the lock file or the set-up itself: made again, else nothing to do.
.venv/.ready: requirements-dev.txt testbed/setup
	@testbed/setup && touch $@

.PHONY: setup
setup: .venv/.ready ## make the Python environment (every other verb does it by itself)

.PHONY: demo
demo: setup ## boot a throwaway 1 GB VPS, run the whole site on it, show what runs and what it uses
	@$(BIN)/python -m testbed up demo --host-vars inventory/demo/host_vars/vps.yml
	@$(BIN)/ansible-playbook -i inventory/demo site.yml
	@$(BIN)/python -m testbed mail demo ana inventory/demo/.secrets/ana
	@$(BIN)/ansible-playbook -i inventory/demo playbooks/dns.yml -e dns_check=false
	@echo; echo "The demo box stays up: log in with  ssh -F .cache/testbed/demo/ssh_config demo ,"
	@echo "run  .venv/bin/ansible-playbook -i inventory/demo site.yml  again, or remove it with  make clean ."

.PHONY: test
test: setup ## run every test: linters, unit tests, sanity, then each role and the whole site on throwaway VPSs
	@testbed/run-tests $(SCENARIOS)

.PHONY: lint
lint: setup ## run the linters and type checks
	@testbed/run-lint

.PHONY: test-vm
test-vm: setup ## prove swap, sysctl, boot order and reboot in a real, emulated and slow virtual machine (an hour)
	@$(BIN)/pytest -q -s tests/vm

.PHONY: bench
bench: setup ## measure hardening beside dev-sec, Docker's settings, Matomo and mail, on fresh VPSs (see benchmarks/)
	@$(BIN)/python -m benchmarks.hardening
	@$(BIN)/python -m benchmarks.docker
	@$(BIN)/python -m benchmarks.matomo
	@$(BIN)/python -m benchmarks.mail

.PHONY: bench-sync
bench-sync: setup ## measure the sync server and client beside Gin, nginx, rclone, Syncthing and Unison (about ten minutes)
	@testbed/setup-sync
	@$(BIN)/python -m benchmarks.sync

.PHONY: test-promises
test-promises: setup ## break each promise of the sync server in a copy, and see the named test fail
	@testbed/setup-sync
	@sync_server/.venv/bin/python sync_server/tests/mutations.py

.PHONY: lock
lock: setup ## renew the locked requirements of this environment and of the sync server's
	@$(BIN)/uv pip compile --quiet --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --upgrade --output-file requirements-dev.txt pyproject.toml
	@testbed/lock-sync

.PHONY: clean
clean: ## remove everything demo and test made, the Python environment included
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m testbed clean; fi
	@rm -rf .venv sync_server/.venv .cache .collections .ansible inventory/demo/host_vars inventory/demo/.secrets inventory/demo/.matomo-snippets inventory/demo/.oci-security-list.json
