SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
TIME := 60

.PHONY: help demo test test-all attacks bench fuzz mutants check fmt clean reference requirements man completion deb examples

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' Makefile | expand -t 22

demo: ## the six lanes, live, on this machine (ARGS="--window 4 --json out.json")
	@tools/setup.sh demo
	@.venv/bin/knockdemo lab $(ARGS)

test: ## the tests, without the long ones, two at a time (ARGS="-k bpf")
	@tools/setup.sh test
	@$(PY) -m pytest -n 2 -m "not long" $(ARGS)

test-all: ## all tests, one at a time: some of the long ones measure
	@tools/setup.sh test
	@$(PY) -m pytest $(ARGS)

attacks: ## attack a gate in every way of tests/attacks, and write docs/attacks.md (about ten minutes)
	@tools/setup.sh test
	@$(PY) -m tools.attacks $(ARGS)

bench: ## measure it all beside knockd and fwknopd, 40 minutes, into docs/benchmarks.md (ARGS="--quick": a check)
	@tools/setup.sh test
	@$(PY) -I -m pip -q install --require-hashes --only-binary :all: -r requirements/bench.txt
	@$(PY) -m bench $(ARGS)

check: ## ruff, mypy --strict, import-linter, and a run from copied folders on a bare Python
	@tools/setup.sh test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict
	.venv/bin/lint-imports
	$(PY) -m pytest -q tests/test_bare_python.py

fmt: ## format, and fix what ruff can fix
	@tools/setup.sh test
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

reference: ## docs/reference/gate-toml.md anew, out of the schema
	@tools/setup.sh test
	@$(PY) -m tools.reference

man: ## pages for man(1) into build/man, out of --help and the schema
	@tools/setup.sh test
	@rm -rf build/man
	@$(PY) -m tools.manpages

completion: ## completion scripts for bash, zsh and fish into build/completion
	@tools/setup.sh test
	@mkdir -p build/completion
	@set -e; cd build/completion; for each in bash:knockgate.bash zsh:_knockgate fish:knockgate.fish; do \
	../../.venv/bin/knockgate completion $${each%%:*} >$${each#*:}; done

deb: ## a Debian package into build (DEBFULLNAME and DEBEMAIL: who is its maintainer)
	@tools/setup.sh deb
	@$(PY) -m tools.deb

examples: ## examples/ansible and examples/cloud-init, run on booted machines; what runs them goes into build
	@tools/setup.sh test
	@test -x build/ansible/bin/ansible-playbook || python3 -m venv build/ansible
	@build/ansible/bin/pip -q install --require-hashes --only-binary :all: -r requirements/examples.txt
	@mkdir -p build/cloud-init/partial
	@ls build/cloud-init/cloud-init_*.deb >/dev/null 2>&1 || apt-get -qq -y --no-install-recommends -d \
	    -o Dir::Cache::archives="$$PWD/build/cloud-init" install cloud-init
	@$(PY) -m pytest tests/systemd/test_ansible.py tests/systemd/test_cloud_init.py $(ARGS)

fuzz: ## a fuzzer at every decoder for TIME seconds each (TIME=600 ARGS=card); fuzz/corpus keeps what it finds
	@tools/setup.sh test
	@$(PY) -I -m pip -q install --require-hashes --only-binary :all: -r requirements/fuzz.txt
	@set -eu; for target in $(or $(ARGS),$$($(PY) -m fuzz)); do \
	    mkdir -p build/fuzz/$$target fuzz/corpus/$$target; \
	    $(PY) -m fuzz $$target build/fuzz/$$target fuzz/corpus/$$target \
	        -max_len=1500 -artifact_prefix=build/fuzz/ -max_total_time=$(TIME); \
	    $(PY) -m fuzz $$target -merge=1 -max_len=1500 fuzz/corpus/$$target build/fuzz/$$target; \
	done

mutants: ## put mistakes into spa and mechanisms: do their tests notice? (ARGS=mechanisms/marks; run again, it goes on)
	@tools/setup.sh test
	@$(PY) -I -m pip -q install --no-deps --require-hashes --only-binary :all: -r requirements/mutants.txt
	@$(PY) -m tools.mutants $(ARGS)

clean: ## remove everything that the commands above made here
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

requirements: ## pin requirements/*.txt anew out of *.in (needs uv on the PATH)
	@set -eu; new=$$(mktemp); trap 'rm -f "$$new"' EXIT; for name in dev fuzz mutants deb bench examples; do \
	sed '/^[^#]/,$$d' requirements/$$name.txt >"$$new"; \
	alone=; [[ $$name != deb && $$name != mutants ]] || alone=--no-deps; \
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $$alone \
	    requirements/$$name.in >>"$$new"; \
	cat "$$new" >requirements/$$name.txt; done
