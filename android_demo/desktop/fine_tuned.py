"""A model fine-tuned as docs/guides/fine-tune.md does it, on wide pictures whose class a crop would lose, and what Keras answers.

python android_demo/desktop/fine_tuned.py --out build/android/fine_tuned

Writes train/ and test/ (LABEL/NAME.png), sides.keras, labels.txt, and expected.json: the accuracy of `model.evaluate` on test/ and the
class of every picture there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from calibration import builtin
from tfvit import ViTTransformerNano32, preprocess_input

WIDTH, HEIGHT, SIDES = 120, 48, {"left": 20, "middle": 60, "right": 100}
TRAIN, TEST = 48, 16


def picture(number: int, column: int) -> Image.Image:
    """A generated scene, dimmed, with a bright disc around `column`: outside the centre square for the classes at the sides."""
    scene = builtin.generate(number, WIDTH, 7)[:HEIGHT] * 0.5
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    disc = (rows - HEIGHT / 2) ** 2 + (columns - column - number % 9 + 4) ** 2 < (9 + number % 4) ** 2
    scene[disc] = (250, 240, 90)
    return Image.fromarray(scene.clip(0, 255).astype(np.uint8))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    for part, count, first in (("train", TRAIN, 0), ("test", TEST, 10_000)):
        for number, (name, column) in enumerate(SIDES.items()):
            folder = out / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                picture(first + 1000 * number + index, column).save(folder / f"{index:02}.png")
    keras.utils.set_random_seed(0)
    train = keras.utils.image_dataset_from_directory(out / "train", image_size=(32, 32), batch_size=16, seed=0, verbose=False)
    test = keras.utils.image_dataset_from_directory(out / "test", image_size=(32, 32), batch_size=16, shuffle=False, verbose=False)
    (out / "labels.txt").write_text("\n".join(train.class_names) + "\n", encoding="utf-8")
    pixels = keras.Input((32, 32, 3))
    features = ViTTransformerNano32(include_top=False)(preprocess_input(pixels))
    scores = keras.layers.Dense(len(train.class_names), activation="softmax")(features)
    model = keras.Model(pixels, scores)
    model.compile(keras.optimizers.AdamW(3e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train, epochs=4, verbose=0)
    _, accuracy = model.evaluate(test, verbose=0)
    answers = model.predict(test, verbose=0).argmax(axis=1).tolist()
    paths = [Path(path).relative_to(out).as_posix() for path in test.file_paths]
    model.save(out / "sides.keras")
    document = {"accuracy": accuracy, "answers": dict(zip(paths, answers, strict=True))}
    (out / "expected.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"fine-tuned: right on {accuracy:.1%} of {len(paths)} wide pictures")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
