#!/usr/bin/env bash
# Makes docs/example-report and its picture: nano32 with its trained weights in every recipe that passes, tiny224 with random ones.
#
#   scripts/example_report.sh FOLDER IMAGES
#
# FOLDER takes the files (finished ones are kept), IMAGES is CIFAR-10's test images as a zip or folder, LABEL/NAME in it. Their thumbnails stay
# out of the page; those in it are of generated images. About 15 minutes on two cores; a machine with nothing else to do gives valid latencies.
set -euo pipefail

if [ $# -ne 2 ]; then
    echo "usage: scripts/example_report.sh FOLDER IMAGES" >&2
    exit 2
fi
mkdir -p "$1"
folder="$(realpath "$1")"
images="$(realpath "$2")"
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD"

# exit code 1: a recipe missed its gate and is not among the files, which the page shows by itself
python -m edge.convert --variant nano32 --quant all --out "$folder" || [ $? -eq 1 ]
python -m edge.convert --variant tiny224 --weights random:0 --quant float32,float16,int8 --out "$folder"

(
    cd "$folder"
    for variant in nano32 tiny224; do
        # float32 first: the ratios are to it
        python -m edge.benchmark "$variant"-float32*.tflite $(ls "$variant"-*.tflite | grep -v -- -float32) --save "$variant.benchmark.json"
    done
    for file in nano32-*.tflite; do
        result="${file%.tflite}.validation.json"
        [ -s "$result" ] || python -m edge.validate "$file" --images "$images" --layers --no-thumbnails --save "$result"
    done
    for pair in "nano32-int8 768" "tiny224-int8.random 64"; do
        read -r name samples <<< "$pair"
        result="$name.builtin.validation.json"
        [ -s "$result" ] || python -m edge.validate "$name.tflite" --samples "$samples" --layers --save "$result"
    done
)

mkdir -p docs/example-report
python -m edge.report "$folder" -o docs/example-report/report.html
python scripts/screenshot.py docs/example-report/report.html docs/figures/report.png
