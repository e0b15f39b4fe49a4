# `make` sets everything up and runs the default preset; `make help` lists the rest.
# PRESET names a file in config/; CONFIG changes options: CONFIG='seeds=[0]' or CONFIG='data={"gsm8k": {"path": "folder"}}'.
PRESET ?= tiny
CONFIG ?=
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SNAKEMAKE := $(BIN)/snakemake --cores all
PRESETS := $(patsubst config/%.yaml,%,$(wildcard config/*.yaml))
# As it was written, its quotes and dollars, too.
OPTIONS := $(if $(value CONFIG),--config '$(subst ','\'',$(value CONFIG))')

# As the Snakefile sets them for its jobs.
export GLIBC_TUNABLES ?= glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296:glibc.malloc.hugetlb=1

# A preset that is not there ends in one line; Snakemake would show where it tried to open it.
NO_PRESET = $(error config/$(PRESET).yaml: no such preset; PRESET is one of $(PRESETS)$(if $(wildcard config/$(PRESET)-*.yaml), (several at once are for `make plan`)))

.DEFAULT_GOAL := run
.PHONY: preset presets checked run ablation plan smoke test slurm-test lint format schema audit architectures sweep reference bench step-speed live-speed latent-speed peers calibration verify disk clean-work clean help

preset:
	$(if $(filter $(PRESET),$(PRESETS)),,$(NO_PRESET))

presets:
	$(if $(filter $(PRESET) $(PRESET)-%,$(PRESETS)),,$(NO_PRESET))

# Snakemake opens a preset before it asks what is wrong with it, and of a broken file shows where it failed.
checked: preset $(READY)
	@$(BIN)/python -m adaptbench check config/$(PRESET).yaml $(OPTIONS) > /dev/null

run: checked  ## run a preset (PRESET=tiny) and say where the results are
	$(SNAKEMAKE) --configfile config/$(PRESET).yaml $(OPTIONS)
	@$(SNAKEMAKE) --quiet all --configfile config/$(PRESET).yaml $(OPTIONS) --report results/$(PRESET)/report.html
	@echo "Snakemake's report: results/$(PRESET)/report.html"

ablation: checked  ## run a preset's ablation (PRESET=tiny): variants of a method, one table each
	$(SNAKEMAKE) ablation --configfile config/$(PRESET).yaml $(OPTIONS)
	@$(SNAKEMAKE) ablation --quiet all --configfile config/$(PRESET).yaml $(OPTIONS) --report results/$(PRESET)/report-ablation.html
	@echo "Snakemake's report: results/$(PRESET)/report-ablation.html"

plan: presets $(READY)  ## say what a preset will take, and what of it is assumed (PRESET=paper: all config/paper-*.yaml; ASSUME='--gpus 8')
	$(BIN)/python -m adaptbench estimate $(or $(wildcard config/$(PRESET).yaml),$(wildcard config/$(PRESET)-*.yaml)) $(OPTIONS) $(ASSUME)

smoke: $(READY)  ## run the whole graph cut down, and say where the time went
	$(SNAKEMAKE) --configfile config/smoke.yaml
	$(BIN)/python -m tools time results/smoke

test: $(READY)  ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 20

slurm-test: $(READY)  ## test profiles/slurm on a Slurm that is set up on this machine, as root: for a container of Debian
	@# Packages of .venv and the plugin on top: in .venv it would make every snakemake wait for a Slurm that is not there.
	$(BIN)/python -m venv .slurm-venv
	$(BIN)/python -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' \
		> "$$(.slurm-venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/beneath.pth"
	.slurm-venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt snakemake-executor-plugin-slurm
	.slurm-venv/bin/python -m pytest -m slurm -o faulthandler_timeout=3600 tests/slurm

lint: $(READY)  ## check style, types, workflow, schema and the links of documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	@# As a wheel holds it, with kernels/, methods/ and benchmarks/ inside: mypy finds packages by their place alone.
	rm -rf .typed && mkdir .typed && cp -rp adaptbench .typed && cp -rp benchmarks kernels methods .typed/adaptbench
	@# In the checkout these have no __init__.py: there it would hide another project's package of that name.
	touch .typed/adaptbench/benchmarks/__init__.py .typed/adaptbench/kernels/__init__.py .typed/adaptbench/methods/__init__.py
	@# Which room may import which: tool.importlinter in pyproject.toml.
	cd .typed && ../$(BIN)/lint-imports ../pyproject.toml --no-cache > imports.txt || { cat imports.txt; exit 1; }
	cd .typed && ../$(BIN)/mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache
	$(BIN)/python -m adaptbench schema --check config/schema.json
	$(BIN)/python -m tools preset-keys --check docs/presets.md
	$(BIN)/python -m tools links

format: $(READY)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

audit:  ## ask for known holes in the pinned packages (needs a network, and says so where there is none)
	@[ -x .audit/bin/pip-audit ] || { $(PYTHON) -m venv .audit && .audit/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 20 'pip-audit>=2.9,<3'; } \
		|| echo "audit: pip-audit could not be installed"
	@$(PYTHON) .ci/audit.py .audit/bin/pip-audit constraints.txt

schema: $(READY)  ## write the presets' JSON schema, and the reference of their keys in docs/presets.md
	$(BIN)/python -m adaptbench schema config/schema.json
	$(BIN)/python -m tools preset-keys docs/presets.md

architectures: $(READY)  ## measure what each architecture can do, on small random models, and keep the table (after a new transformers)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.capabilities_table

sweep: preset $(READY)  ## choose learning rates on validation (PRESET=tiny), results in results/reference/sweep
	$(BIN)/python -m tools sweep-preset config/$(PRESET).yaml results/$(PRESET)-sweep/preset.yaml
	$(SNAKEMAKE) results/$(PRESET)-sweep/collected/scores.csv --configfile results/$(PRESET)-sweep/preset.yaml $(OPTIONS)
	$(BIN)/python -m tools sweep-choose results/$(PRESET)-sweep/collected results/reference/sweep/$(PRESET).csv

reference: $(READY)  ## keep the tables and figures of a preset (PRESET=tiny) in results/reference, README and docs
	$(BIN)/python -m tools reference results/$(PRESET) results/reference/$(PRESET) README.md $(wildcard docs/*.md)

step-speed: $(READY)  ## time the parts of a training step of each method, on one thread as jobs have, after `make` (results in results/reference/bench)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools step-speed results/$(PRESET) results/reference/bench

live-speed: $(READY)  ## time live episodes side by side and one at a time, after `make` (results in results/reference/bench)
	$(BIN)/python -m tools live-speed results/$(PRESET)/runs/agent/glpft/seed0 results/reference/bench/live_$(PRESET).csv

bench: $(READY)  ## time the operations of kernels/ against what they replace (results in results/reference/bench)
	$(BIN)/python -m tools kernel-speed results/reference/bench

verify: run  ## run a preset (PRESET=tiny), and say for each number whether it is inside the kept reference's interval
	$(BIN)/python -m tools verify results/$(PRESET) results/reference/$(PRESET)

calibration: $(READY)  ## simulate how often intervals and tests are right, and keep the table
	$(BIN)/python -m tools calibration results/reference/statistics

latent-speed: $(READY)  ## time ways through latent tokens, training and decoding (results in results/reference/bench)
	$(BIN)/python -m tools latent-speed results/reference/bench

peers: $(READY)  ## time training steps against those of TRL, transformers and peft (results in results/reference/bench)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'
	$(BIN)/python -m tools peer-speed results/reference/bench

disk: $(READY)  ## say what a preset's results (PRESET=tiny) weigh, by kind
	@$(BIN)/python -m tools disk results/$(PRESET)

clean-work: $(READY)  ## remove models that lie between finished runs (PRESET=tiny) and finished stages' work; FORCE=1: unfinished ones', too
	@$(BIN)/python -m tools clean-work results/$(PRESET) $(if $(FORCE),--force)

clean:  ## remove results (not the committed reference)
	rm -rf $(filter-out results/reference,$(wildcard results/*)) .snakemake

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

# Pinned versions from constraints.txt; the ranges are in pyproject.toml.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)
