# VENV can be set to build the environment elsewhere: make VENV=/tmp/venv test
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: check test slow bench bench-peers rounding int4 coverage lint matrix scale fidelity checkpoints accuracy runtimes vulkan gpu training example-report android package docs guides apk android-screens mediapipe fuzz kill npu readers browser arm-profile float16

# before every push, under three minutes on two idle cores: everything but the tests that go the whole way through commands, which `make test`
# runs too
check: lint
	$(BIN)/python -m pytest -n auto --dist loadgroup -m '$(PARTS)'
PARTS = not whole and not slow and not gpu and not training and not package and not guides and not scale

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist loadgroup

# software Vulkan drivers, for the tests on the GPU delegate; Debian 12 on amd64, as root
vulkan:
	scripts/software_vulkan.sh build/vulkan

# every probe of the GPU rules, on software Vulkan; the telling ones are among the slow tests
gpu: $(INSTALLED) vulkan
	$(BIN)/python -m pytest -m gpu -n auto --dist loadgroup

# every reader of bytes from outside under a coverage-guided fuzzer (Atheris), FUZZ_SECONDS each, in an environment of its own; crashers are
# kept in build/fuzz/crashes, and go to tests/fuzz once mended
FUZZ_SECONDS ?= 60
fuzz:
	$(PYTHON) -m venv build/fuzz/venv
	build/fuzz/venv/bin/pip install --quiet -e '.[edge,report,test]' atheris==3.0.0
	nice build/fuzz/venv/bin/python -m fuzz.run --seconds $(FUZZ_SECONDS)

# real conversions and bundles, 50 of each killed at random points, about 15 minutes
kill: $(INSTALLED)
	KILLS=50 $(BIN)/python -m pytest -m slow -s tests/edge/test_kill.py

# examples/train_cifar10.py trains on a few images
training: $(INSTALLED)
	$(BIN)/python -m pytest -m training

# the wheel and the source distribution built, checked and installed into fresh environments, the main command run there: some minutes and
# 2 GB for an interpreter, and more of them where PYTHONS names them
PYTHONS ?= $(PYTHON)
package: $(INSTALLED)
	$(BIN)/pip install --quiet -e '.[package]'
	PYTHONS="$(PYTHONS)" $(BIN)/python -m pytest -m package

# the documentation site in build/site, from docs/ and the docstrings; a dead link is an error. Half a minute, most of it importing.
docs: $(INSTALLED)
	$(BIN)/pip install --quiet -e '.[docs]'
	$(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees docs build/site

# runs the code on the guides' pages, each for itself, in environments made from the pages' own install lines; half an hour
guides: $(INSTALLED)
	rm -rf build/guides
	$(BIN)/python -m pytest -m guides

# the Android app's core and inference class on the JVM, with real LiteRT, two to four minutes; after make vulkan also on the GPU delegate.
# Fetches a Kotlin compiler (PyPI), JUnit and JNA (Debian), once; exit code 3 where these are not to be had.
PHOTOS ?= ../shared/data/photos
android: $(INSTALLED)
	VK_ICD_FILENAMES="$(realpath build/vulkan/lavapipe.json)" PHOTOS="$(PHOTOS)" PYTHON="$(BIN)/python" android_demo/desktop/test.sh build/android

# docs/figures/android_demo.png: the app's layouts drawn by Chromium, with what the JVM run of make android answered
android-screens: $(INSTALLED)
	PYTHON="$(BIN)/python" android_demo/desktop/screens.sh build/android docs/figures/android_demo.png

# an APK of the app without LiteRT, built, signed and checked with Debian's tools, two minutes; exit code 3 where they are not to be had
apk: $(INSTALLED)
	PYTHON="$(BIN)/python" android_demo/ci/apk.sh build/android

slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow -n auto --dist loadgroup --durations 12

# full-size variants through every recipe by one command, some 17 GB of files and up to 10 GiB of cache; stopped, it goes on where it was
# make matrix VARIANTS=tiny224,v2_tiny256 JOBS=2
VARIANTS ?=
JOBS ?= 1
matrix: $(INSTALLED)
	$(BIN)/python benchmarks/convert_matrix.py --out build/matrix --jobs $(JOBS) $(if $(VARIANTS),--variants $(VARIANTS))

# the same files from one process, several, a killed run and a dask cluster of two workers
scale: $(INSTALLED)
	$(BIN)/python -m pytest -m scale

# what XNNPACK and the GPU delegate take of every variant: results/delegate_coverage.csv, about 90 minutes on software Vulkan; rows there are kept
coverage: $(INSTALLED) vulkan
	VK_ICD_FILENAMES=build/vulkan/lavapipe.json $(BIN)/python benchmarks/delegate_coverage.py

# PyTorch's original in its own environment against ours, at full size. timm asks for a torchvision that fits a GPU build of PyTorch and
# needs none of it here, hence --no-deps.
fidelity: $(INSTALLED)
	$(PYTHON) -m venv build/timm
	build/timm/bin/pip install --quiet torch==2.13.0 pyyaml huggingface_hub safetensors numpy pillow
	build/timm/bin/pip install --quiet --no-deps timm==1.0.31 torchvision==0.28.0
	$(BIN)/python benchmarks/timm_fidelity.py --timm-python build/timm/bin/python

# checkpoints as transformers and timm save them, read here: results/checkpoint_fidelity.csv; fine-tuned ones to int8
# files: results/checkpoint_formats.csv; about 15 minutes
checkpoints: $(INSTALLED)
	$(PYTHON) -m venv build/checkpoints
	build/checkpoints/bin/pip install --quiet torch==2.13.0 transformers==5.24.0 pyyaml huggingface_hub safetensors numpy pillow
	build/checkpoints/bin/pip install --quiet --no-deps timm==1.0.31 torchvision==0.28.0
	$(BIN)/python benchmarks/checkpoint_fidelity.py --python build/checkpoints/bin/python
	$(BIN)/python benchmarks/checkpoint_formats.py --python build/checkpoints/bin/python

# the shipped models in every recipe on the CIFAR-10 test images: results/accuracy.csv and the tables of the pages, about 20 minutes (w8a16 alone 10)
CIFAR10 ?= ../shared/data/cifar10
accuracy: $(INSTALLED)
	$(BIN)/python benchmarks/accuracy.py --data $(CIFAR10)
	$(BIN)/python benchmarks/calibration_draws.py --data $(CIFAR10)
	$(BIN)/python benchmarks/fill_pages.py

# files of ours in tflite-runtime 2.14, in LiteRT on aarch64 (qemu) and in LiteRT.js (Chromium): results/runtimes.csv, about 15 minutes.
# The only thing installed outside build/ is Chromium, where apt-get may; what cannot be had is a row "not tested" and exit code 3.
runtimes: $(INSTALLED)
	command -v chromium >/dev/null || apt-get install -y -q --no-install-recommends chromium || true
	$(BIN)/python benchmarks/runtimes/run.py --data $(CIFAR10)
	$(BIN)/python benchmarks/runtimes/operators.py

# the page of edge.bundle --web in headless Chromium, with LiteRT.js fetched into build/litert_js once; some minutes, most of them WebGPU on
# the CPU. Without Chromium its tests are skipped.
browser: $(INSTALLED) vulkan
	$(BIN)/python -c 'from pathlib import Path; from edge.artifacts.store import Store; from edge.web.litert_js import files; files(Store(Path("build/litert_js")))'
	VK_ICD_FILENAMES=build/vulkan/lavapipe.json $(BIN)/python -m pytest -m slow tests/edge/web

# our files, as usual and with --portable, in readers other than TensorFlow's: OpenVINO, tf2onnx with ONNX Runtime, MNN, TVM, each in its own
# environment (2 GB): results/readers.csv and the table of the results page, about twenty minutes
readers: $(INSTALLED)
	$(BIN)/python benchmarks/readers/run.py
	$(BIN)/python benchmarks/fill_pages.py

# instructions (and no time) of one inference on ARM cores, by kernel: results/arm_instructions.csv and the table of the results page. Builds
# an emulator first, with Debian's packages and as root; about an hour. Exit code 3 where it cannot be had.
arm-profile: $(INSTALLED)
	$(BIN)/python benchmarks/arm_profile.py
	$(BIN)/python benchmarks/fill_pages.py

# the largest numbers of float16 files, and runs of them in float16 on software Vulkan: results/float16_headroom.csv, results/float16_run.csv and
# the table of the results page, about a quarter of an hour
float16: $(INSTALLED) vulkan
	$(BIN)/python benchmarks/float16_headroom.py --images $(CIFAR10)/test.zip
	VK_ICD_FILENAMES="$(realpath build/vulkan/lavapipe.json)" $(BIN)/python benchmarks/float16_run.py --data $(CIFAR10)
	$(BIN)/python benchmarks/fill_pages.py

# what Arm's compiler for Ethos-U takes of integer files, and its estimates: results/npu.csv, minutes a variant, 4 GB
npu: $(INSTALLED)
	$(BIN)/pip install --quiet -e '.[npu]'
	$(BIN)/python benchmarks/npu.py

# our files in MediaPipe Tasks' ImageClassifier, in an environment of its own (300 MB): results/mediapipe.csv, about ten minutes, most of it
# converting. Exit code 3 where MediaPipe or the photographs cannot be had.
mediapipe: $(INSTALLED)
	$(PYTHON) -m venv build/mediapipe
	build/mediapipe/bin/pip install --quiet mediapipe==1.2.2 || true
	$(BIN)/python benchmarks/mediapipe_tasks.py --mediapipe-python build/mediapipe/bin/python --photos "$(PHOTOS)"

bench: $(INSTALLED)
	$(BIN)/python benchmarks/recipe_latency.py --variant tiny224 --csv results/recipe_latency.csv
	$(BIN)/python benchmarks/recipe_latency.py --variant v2_tiny256 --csv results/recipe_latency.csv
	$(BIN)/python benchmarks/recipe_latency.py --variant vit_tiny16_224 --csv results/recipe_latency.csv
	$(BIN)/python benchmarks/operation_profile.py
	$(BIN)/python benchmarks/fill_pages.py

# the int8 recipe's weights rounded by us and by ai-edge-quantizer's GPTQ, OCTAV and MSE: results/rounding.csv, about half an hour
rounding: $(INSTALLED)
	$(BIN)/python benchmarks/rounding.py --data $(CIFAR10) --draws 1

# the recipes int4 and smallest: results/int4.csv, choices within them: results/int4_choices.csv; about an hour. Which runtimes run a 4-bit
# file takes environments of theirs: benchmarks/int4_runtimes.py.
int4: $(INSTALLED)
	$(BIN)/python benchmarks/int4.py --data $(CIFAR10)
	$(BIN)/python benchmarks/int4_choices.py --data $(CIFAR10)
	$(BIN)/python benchmarks/fill_pages.py

# our files beside other tools' of the same architecture, each in its own environment (3 GB), about 40 minutes on two cores. One PyTorch
# for litert-torch and the ONNX export; what ONNX Runtime and OpenVINO load, they load without it. ai-edge-quantizer and ai-edge-litert are
# ours: every .tflite is measured on one runtime.
PEERS = build/peers
bench-peers: $(INSTALLED)
	$(PYTHON) -m venv $(PEERS)/litert-torch
	$(PEERS)/litert-torch/bin/pip install --quiet torch==2.13.0 litert-torch==0.10.0 ai-edge-litert==2.3.0 ai-edge-quantizer==0.10.0 \
		onnx==1.23.2 onnxscript==0.7.2 pyyaml huggingface_hub safetensors
	$(PEERS)/litert-torch/bin/pip install --quiet --no-deps timm==1.0.31 torchvision==0.28.0
	$(PYTHON) -m venv $(PEERS)/onnxruntime
	$(PEERS)/onnxruntime/bin/pip install --quiet onnxruntime==1.32.0 onnx==1.23.2 onnx-ir sympy
	$(PYTHON) -m venv $(PEERS)/openvino
	$(PEERS)/openvino/bin/pip install --quiet openvino==2026.4.1 nncf==3.4.0
	$(BIN)/python benchmarks/peers/compare.py --environments $(PEERS)
	$(BIN)/python benchmarks/fill_pages.py

# docs/example-report and its picture: nano32 with its trained weights, tiny224 with random ones, about 15 minutes on two cores
example-report: $(INSTALLED)
	PATH="$(abspath $(BIN)):$$PATH" scripts/example_report.sh build/nano32-tiny224 $(CIFAR10)/test.zip
