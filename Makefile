# Every target runs `python -m something`; this file only sets up the environment and passes variables on.
# `make` alone lists the targets.

# Empty: the command uses its own default.
MODEL ?=
NAME ?=
WEIGHTS ?=
WEIGHTS_SHA256 ?=
LABELS ?=
RUNTIME ?=
PRECISION ?=
CALIBRATION ?=
INT8_TOLERANCE ?=
DEVICE ?=
FALLBACK ?=
CROP ?=
SANDBOX ?=
DECODE ?=
LIMITS ?=
DATA ?=
METHOD ?=
STAGES ?=
EPOCHS ?=
FOLDS ?=
RATE ?=
ACCUMULATE ?=
MIRROR ?=
BATCH_NORM ?=
TRAIN_PRECISION ?=
DEVICES ?=
CACHE_GB ?=
VIDEOS ?=
FRAME_RATE ?=
N ?=
SEED ?=
WORKERS ?=
BATCH ?=
DECODE_THREADS ?=
DEVICE_IDS ?=
PORT ?=
GATEWAY ?= 1
GATEWAY_PORT ?=
FOREGROUND ?=
MINUTES ?= 60
T ?=
TAG ?=
BASE ?=
TORCH ?=

VENV ?= .venv
STAMP := $(VENV)/.installed
PYTHON := $(VENV)/bin/python
SOURCES := handler actionrec_client actionrec_gateway actionrec_engines export motion training deploy testing benchmarks tests examples
DEMO := build/demo
DEMO_ARCHIVE := $(DEMO)/model_store/motion.mar

# Archives and servers must import only installed packages and the archive's files, nothing from a PYTHONPATH.
unexport PYTHONPATH
SHELL := bash
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo archive learn serve stop status scale test test-cluster test-fast test-debian13 test-slow test-gpu hooks lint fuzz faults soak stream-soak \
	bench bench-gpu clean train-motion evaluate-motion lock sbom audit

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' Makefile | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 18
	@echo
	@echo 'archive: MODEL=auto NAME= WEIGHTS= WEIGHTS_SHA256= LABELS= RUNTIME=auto FALLBACK=1 PRECISION= CALIBRATION= INT8_TOLERANCE= DEVICE= CROP= SANDBOX=1|0|require DECODE=cpu|gpu LIMITS='
	@echo 'learn:   DATA= NAME= MODEL=slowfast_r50 METHOD=head VIDEOS= FRAME_RATE= RUNTIME=auto PRECISION= DEVICE='
	@echo '         METHOD=finetune: STAGES= EPOCHS= FOLDS= RATE= BATCH= ACCUMULATE= MIRROR= BATCH_NORM= SEED= TRAIN_PRECISION= DEVICES= CACHE_GB='
	@echo 'serve:   MODEL=all PORT=8080 GATEWAY=1 GATEWAY_PORT=8000 GATEWAY_TOKENS= GATEWAY_ADMINS= FETCH= WORKERS= BATCH= DECODE_THREADS= DEVICE_IDS= FOREGROUND=1'
	@echo 'scale:   WORKERS=2 MODEL=all      soak: MINUTES=60'

setup: $(STAMP)  ## make .venv with all dependencies; install Java and g++ where possible
	@:

$(STAMP): pyproject.toml scripts/setup
	@scripts/setup $(VENV)
	@touch $@

# $(call with_motion_server,module): serve the bundled model, run `python -m module --url URL`, stop the server.
define with_motion_server
trap 'exit 130' INT TERM; trap '$(PYTHON) -m deploy stop --run-dir $(DEMO)/run' EXIT; \
	$(PYTHON) -m deploy start --quiet --run-dir $(DEMO)/run --log-dir $(DEMO)/logs --model-store $(DEMO)/model_store \
		--port $(or $(PORT),0) && \
	$(PYTHON) -m $(1) --url "$$($(PYTHON) -m deploy url --run-dir $(DEMO)/run)"
endef

demo: $(DEMO_ARCHIVE)  ## build, serve and try the small bundled model
	@$(call with_motion_server,motion.demo)

# Uses a store of its own, so that the user's model_store does not change.
$(DEMO_ARCHIVE): $(STAMP) $(shell find handler export motion -type f -not -name '*.pyc' 2>/dev/null)
	@$(PYTHON) -m export --model motion --runtime torchscript --store $(@D)
	@touch $@

archive: $(STAMP)  ## build model_store/<name>.mar from a model and its weights
	@$(PYTHON) -m export $(if $(MODEL),--model '$(MODEL)') --name '$(NAME)' --weights '$(WEIGHTS)' \
		--weights-sha256 '$(WEIGHTS_SHA256)' --labels '$(LABELS)' $(if $(RUNTIME),--runtime '$(RUNTIME)') \
		$(if $(PRECISION),--precision '$(PRECISION)') --calibration '$(CALIBRATION)' \
		--int8-tolerance '$(INT8_TOLERANCE)' $(if $(DEVICE),--device '$(DEVICE)') --fallback '$(FALLBACK)' --crop '$(CROP)' \
		--sandbox '$(SANDBOX)' --decode '$(DECODE)' --limits '$(LIMITS)' \
		--store model_store

learn: $(STAMP)  ## learn your own labels from DATA, videos in a folder for each label, into model_store/<name>.mar and a report
	@[ -n '$(DATA)' ] && [ -n '$(NAME)' ] || { echo 'error: from what, and under which name? make learn DATA=my_videos NAME=mine' >&2; exit 1; }
	@$(PYTHON) -m export learn --data '$(DATA)' --name '$(NAME)' --model '$(MODEL)' --method '$(METHOD)' --videos '$(VIDEOS)' \
		--frame-rate '$(FRAME_RATE)' --runtime '$(RUNTIME)' --precision '$(PRECISION)' --device '$(DEVICE)' --store model_store \
		--stages '$(STAGES)' --epochs '$(EPOCHS)' --folds '$(FOLDS)' --rate '$(RATE)' --batch '$(BATCH)' \
		--accumulate '$(ACCUMULATE)' --mirror '$(MIRROR)' --batch-norm '$(BATCH_NORM)' --seed '$(SEED)' \
		--train-precision '$(TRAIN_PRECISION)' --devices '$(DEVICES)' --cache-gb '$(CACHE_GB)'

serve: $(STAMP)  ## serve the archives in model_store; returns when they are ready (FOREGROUND=1 stays)
	@$(PYTHON) -m deploy start $(addprefix --model ,$(or $(NAME),$(filter-out auto,$(MODEL)))) \
		$(if $(PORT),--port '$(PORT)') $(if $(filter-out 0,$(GATEWAY)),--gateway) \
		$(if $(GATEWAY_PORT),--gateway-port '$(GATEWAY_PORT)') $(if $(WORKERS),--workers '$(WORKERS)') \
		$(if $(BATCH),--batch '$(BATCH)') $(if $(DECODE_THREADS),--decode-threads '$(DECODE_THREADS)') \
		$(if $(DEVICE_IDS),--device-ids '$(DEVICE_IDS)') \
		$(if $(filter-out 0,$(FOREGROUND)),--foreground)

stop: $(STAMP)  ## answer the requests in flight, then stop the server
	@$(PYTHON) -m deploy stop

status: $(STAMP)  ## show models, workers, their devices and settings; fails unless every worker is READY
	@$(PYTHON) -m deploy status

scale: $(STAMP)  ## set the number of workers: WORKERS=n for each model, or for MODEL
	@[ -n '$(WORKERS)' ] || { echo 'error: how many workers? make scale WORKERS=2' >&2; exit 1; }
	@$(PYTHON) -m deploy scale --workers '$(WORKERS)' $(addprefix --model ,$(filter-out all auto,$(MODEL)))

.PHONY: image test-image test-pods observe panels
image: $(STAMP)  ## build the container's image with MODEL in it, or without: TAG=actionrec DEVICE=cpu|cuda BASE= TORCH=
	@TAG='$(TAG)' MODEL='$(MODEL)' DEVICE='$(DEVICE)' BASE='$(BASE)' TORCH='$(TORCH)' VENV='$(VENV)' scripts/image

test-image: $(STAMP)  ## build it with buildah, run it, and put the requests of every contract through it; needs root
	@$(PYTHON) -m pytest -q -s -m slow tests/test_image.py

test-pods: $(STAMP)  ## play a rolling update, a scale-down and a lost pod with real processes under load
	@$(PYTHON) -m pytest -q -s -m slow tests/test_kubernetes_played.py

observe: $(STAMP)  ## look at the server: Prometheus with the alerts, and Grafana's dashboards where Grafana is installed
	@$(PYTHON) -m deploy.observability observe

panels: $(STAMP)  ## make Prometheus' rules and Grafana's dashboards anew, after a change of their code
	@$(PYTHON) -m deploy.observability make

test: $(STAMP)  ## run all tests except those that take minutes each; T=tests/test_x.py: only these; JOBS=2: two at once
	@scripts/setup-tests
	@$(PYTHON) -m pytest -q $(if $(JOBS),-n '$(JOBS)' --dist loadfile) $(T)

test-cluster: $(STAMP)  ## compute 2,000 videos on a cluster of three nodes, where actors, a node and the driver are killed
	@scripts/setup-tests
	@$(PYTHON) -m pytest -q -m slow tests/test_ray_batch.py

test-fast: $(STAMP)  ## run the tests that need neither a server nor a built archive, and take no seconds each
	@$(PYTHON) -m pytest -q -m 'not server and not long and not slow and not gpu' $(T)

test-debian13: $(STAMP)  ## run the demo and the fast tests on Debian 13 (Python 3.13, Java 21), on this kernel; needs root
	@scripts/test-debian13

test-slow: $(STAMP)  ## run the tests that take minutes each
	@scripts/setup-tests
	@$(PYTHON) -m pytest -q -m slow

stream-soak: $(STAMP)  ## watch memory and lag of a live stream for MINUTES=10
	@scripts/setup-tests
	@MINUTES='$(or $(MINUTES),10)' $(PYTHON) -m pytest -q -s -m slow tests/test_stream_rtsp.py

hooks: $(STAMP)  ## make git run ruff, mypy and import-linter before each commit
	@$(PYTHON) -m pre_commit install

lint: $(STAMP)  ## run ruff, mypy, import-linter (which room may import which), and TypeScript on the page
	@$(PYTHON) -m ruff check -q $(SOURCES)
	@$(PYTHON) -m ruff format --check $(SOURCES)
	@$(PYTHON) -m mypy $(SOURCES)
	@$(VENV)/bin/lint-imports --no-cache > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }
	@if scripts/setup-web; then build/web/node_modules/.bin/tsc -p actionrec_gateway/page/jsconfig.json; fi

fuzz: $(VENV)/.installed-fuzz  ## try broken files for MINUTES=60, or N= of them, guided by new behaviour; keep shrunk findings in build/fuzz
	@$(PYTHON) -m tests.fuzz $(if $(N),--count '$(N)',--minutes '$(MINUTES)') $(if $(SEED),--seed '$(SEED)')

$(VENV)/.installed-fuzz: $(STAMP)
	@$(PYTHON) -m pip install -qq --disable-pip-version-check --no-input --editable '.[fuzz]'
	@touch $@

bench: $(VENV)/.installed-bench  ## measure everything on this machine, against rivals (an hour on two cores)
	@$(PYTHON) -W ignore -m benchmarks

$(VENV)/.installed-bench: $(STAMP)
	@scripts/setup-bench $(VENV)
	@touch $@

bench-gpu: $(STAMP)  ## measure the model and the server on a GPU: build/gpu/figures.json, served.json; DEVICE=cpu rehearses it
	@VENV='$(VENV)' scripts/gpu-check figures $(if $(filter cpu,$(DEVICE)),--rehearse)
	@VENV='$(VENV)' scripts/gpu-check served $(if $(filter cpu,$(DEVICE)),--rehearse)

test-gpu: $(STAMP)  ## test a GPU host, and every runtime and precision there: build/gpu/correct.json; DEVICE=cpu rehearses it
	@VENV='$(VENV)' scripts/gpu-check correct $(if $(filter cpu,$(DEVICE)),--rehearse)

faults: $(STAMP)  ## kill, overload, poison, replace and stop a server under load (10 minutes)
	@$(PYTHON) -m tests.faults

soak: $(STAMP)  ## send good and bad clips for MINUTES=60; fails where memory, descriptors, threads or files grow
	@$(PYTHON) -m tests.faults soak --seconds $$(( $(MINUTES) * 60 ))

# Tools whose dependencies must not mix with the product's.
SUPPLY := build/supply
$(SUPPLY)/.installed: $(STAMP)
	@$(PYTHON) -m venv $(SUPPLY)
	@$(SUPPLY)/bin/python -m pip install -qq --disable-pip-version-check '.[supply]'
	@touch $@

lock: $(STAMP)  ## pin all packages that a server, and an image, need, with hashes: requirements/serve.txt, image.txt
	@$(PYTHON) scripts/lock $(PYTHON) serve > requirements/serve.txt.new
	@mv requirements/serve.txt.new requirements/serve.txt
	@$(PYTHON) scripts/lock $(PYTHON) serve,gateway,kserve,tracing > requirements/image.txt.new
	@mv requirements/image.txt.new requirements/image.txt

sbom: $(SUPPLY)/.installed  ## list the packages of a server as CycloneDX: build/sbom.json
	@$(SUPPLY)/bin/cyclonedx-py requirements --output-format JSON --output-file build/sbom.json requirements/serve.txt
	@echo 'build/sbom.json'

audit: $(SUPPLY)/.installed  ## look for known vulnerabilities of the pinned packages; needs the network
	@$(SUPPLY)/bin/pip-audit --strict --require-hashes --disable-pip --requirement requirements/serve.txt || \
		{ echo 'error: a vulnerability is known, or the advisories could not be reached; what it says is above' >&2; exit 1; }

DOCS := build/docs
$(DOCS)/.installed: pyproject.toml | $(STAMP)
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install -qq --disable-pip-version-check '.[docs]'
	@touch $@

.PHONY: docs
docs: $(DOCS)/.installed  ## the documents and the API as a site, with nothing from elsewhere: build/site
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict > $(DOCS)/log 2>&1 || { cat $(DOCS)/log; exit 1; }
	@echo 'build/site/index.html'

train-motion: $(STAMP)  ## train the small model from nothing (hours)
	@$(PYTHON) -m motion train

evaluate-motion: $(DEMO_ARCHIVE)  ## measure the small model on 800 new clips, through a server
	@$(call with_motion_server,motion evaluate)

clean:  ## remove all that can be made again, except .venv and model_store
	@[ ! -e run/server.json ] || $(PYTHON) -m deploy stop
	@rm -rf build logs run .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
