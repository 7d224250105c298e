"""Models of nano32 whose outputs are no classes, saved for edge.convert: two values, an embedding, and a map of features, of images of any
size; and one with several outputs: classes, an embedding, labels.

python android_demo/desktop/other_models.py --out build/android/others
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras

from tfvit import ViTTransformerNano32, preprocess_input


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    pixels = keras.Input((32, 32, 3))
    features = ViTTransformerNano32(include_top=False)(preprocess_input(pixels))
    keras.Model(pixels, features).save(out / "embedding.keras")
    ViTTransformerNano32(include_top=False, pooling=None, input_shape=(None, None, 3)).save(out / "map.keras")
    values = keras.Model(pixels, keras.layers.Dense(2)(features))
    values.compile(loss="mse")
    values.save(out / "values.keras")
    classifier = ViTTransformerNano32()
    embedding = classifier.get_layer("avg_pool").output
    labels = keras.layers.Dense(3, activation="sigmoid", name="labels")(embedding)
    several = keras.Model(classifier.input, [classifier.output, keras.layers.UnitNormalization(name="embedding")(embedding), labels])
    several.save(out / "several.keras")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
