# featvis. `make help` lists what there is; every target sets up the virtual environment by itself the first time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Modules are compiled when they are first imported: most of them never are, and all of them take a minute.
INSTALL := $(BIN)/pip --disable-pip-version-check --quiet install --no-compile

# Each variable is the flag of `featvis run` of the same name; empty ones are left to the suite.
flags = $(if $(SUITE),--suite $(SUITE)) $(if $(MODEL),--model $(MODEL)) $(if $(METHODS),--methods $(METHODS)) \
	$(if $(UNITS),--units "$(UNITS)") $(if $(STEPS),--steps $(STEPS)) $(if $(CROPS),--crops $(CROPS)) \
	$(if $(CANVAS),--canvas $(CANVAS)) $(if $(BATCH_SIZE),--batch-size $(BATCH_SIZE)) $(if $(SEED),--seed $(SEED)) \
	$(if $(CLASSIFIERS),--classifiers $(CLASSIFIERS)) $(if $(OBSERVERS),--observers $(OBSERVERS)) \
	$(if $(DEVICES),--devices $(DEVICES)) $(if $(DATA),--data "$(DATA)") \
	$(if $(FRECHET_DATA),--frechet-data "$(FRECHET_DATA)") $(if $(SPECTRUM_DATA),--spectrum-data "$(SPECTRUM_DATA)") \
	$(if $(SEEN_DATA),--seen-data "$(SEEN_DATA)") $(if $(TOKENS),--tokens $(TOKENS)) $(if $(OUT),--out "$(OUT)") \
	$(if $(WANDB),--wandb $(WANDB)) $(if $(DRY_RUN),--dry-run)

.DEFAULT_GOAL := help
.PHONY: help bench test tables reference perf perf-peers site lint docs release clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12
	@echo
	@echo "make bench takes SUITE MODEL METHODS UNITS STEPS CROPS CANVAS BATCH_SIZE SEED CLASSIFIERS OBSERVERS DEVICES DATA FRECHET_DATA SPECTRUM_DATA SEEN_DATA TOKENS OUT WANDB DRY_RUN,"
	@echo "for example: make bench MODEL=efficientnet_lite1 METHODS=maco UNITS=ladybug,blocks.4:0-3"

bench: $(VENV)/.ready  ## generate, score and show the methods: the embedded default without arguments
	@$(BIN)/featvis run $(flags)

# Some hundred processes import the same modules: where nothing compiled is kept, each would compile them anew.
test: $(VENV)/.ready-test  ## run the tests
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(TESTS)

tables: $(VENV)/.ready  ## rebuild results/ and the README's table from results/records
	@$(BIN)/featvis tables

reference: $(VENV)/.ready  ## compute what runs compare with: make reference DATA=folder MODELS=a,b DEVICES=2
	@$(BIN)/featvis reference --spectrum $(if $(DATA),--data "$(DATA)") $(if $(MODELS),--models $(MODELS)) \
		$(if $(DEVICES),--devices $(DEVICES)) $(if $(OUT),--out "$(OUT)") $(if $(WANDB),--wandb $(WANDB)) \
		$(if $(DRY_RUN),--dry-run)

perf: $(VENV)/.ready  ## what a step costs beside the network alone; memory: results in runs/perf
	@$(BIN)/featvis perf $(if $(MODELS),--models $(MODELS)) $(if $(OUT),--out "$(OUT)") $(if $(WANDB),--wandb $(WANDB))

# The other libraries run with this torch: they are installed beside it, without what they depend on.
perf-peers: $(VENV)/.ready .peers/.ready  ## MACO's speed and pictures beside horama's and dreamlens's
	@$(BIN)/featvis perf-peers $(if $(MODEL),--model $(MODEL)) $(if $(OUT),--out "$(OUT)") \
		$(if $(WANDB),--wandb $(WANDB))

.peers/.ready: Makefile | $(VENV)/bin/python
	@$(INSTALL) --no-deps --upgrade --target .peers horama==0.3.0 dreamlens==0.1.1
	@touch $@

lint: $(VENV)/.ready-test $(VENV)/.ready-lint  ## ruff, mypy, and who may import whom
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

# Two networks over the ten classes of Imagenette, and the leaderboard.
SITE_MODELS := efficientnet_lite0,deit_tiny_patch16_224
SITE_CLASSES := 0,217,482,491,497,566,569,571,574,701
site: $(VENV)/.ready-site  ## make the site of our networks and records in runs/site: make site DATA=folder
	@$(BIN)/featvis site $(or $(MODELS),$(SITE_MODELS)) --data "$(or $(DATA),imagenette)" \
		--classes $(SITE_CLASSES) --layers blocks.2,blocks.4,blocks.9 --concept-layer blocks.8.mlp.act \
		--methods maco_fast,fourier_lucid --steps 64 --crops 1 --canvas 256 --images 20 \
		--records results/records --out "$(or $(OUT),runs/site)"

docs: $(VENV)/.ready-docs  ## build the documentation into site/; a dead link or anchor fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

release: $(VENV)/.ready-release  ## build wheel and sdist into dist/, check them, and run the wheel somewhere else
	@PYTHON=$(BIN)/python .ci/release

clean:  ## remove the virtual environment and the caches; runs/ stays
	rm -rf $(VENV) .peers build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "featvis needs Python 3.11 or later; name one with PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)

# The lock is a constraints file: pinned where a package applies, harmless where it does not.
$(VENV)/.ready: pyproject.toml requirements.lock | $(VENV)/bin/python
	@echo "installing featvis into $(VENV) (a few minutes the first time)"
	@$(INSTALL) -c requirements.lock -e '.[embedded,fast]'
	@touch $@

# Without waiting for .ready, whose packages these have too: a fresh machine resolves and installs them once.
$(VENV)/.ready-test $(VENV)/.ready-site $(VENV)/.ready-lint $(VENV)/.ready-docs $(VENV)/.ready-release: \
		$(VENV)/.ready-%: \
		pyproject.toml requirements.lock | $(VENV)/bin/python
	@echo "installing featvis with what '$*' needs into $(VENV) (a few minutes the first time)"
	@$(INSTALL) -c requirements.lock -e '.[embedded,fast,$*]'
	@touch $(VENV)/.ready $@
