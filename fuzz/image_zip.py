"""A zip of images: names that lead elsewhere, members that lie about their size, bombs."""

from calibration.image_set import open_image_set
from calibration.survey import survey
from fuzz.target import file, folder
from tfvit.preprocessing import Preprocessing

_PREPROCESSING = Preprocessing.for_image_size(32)


def read(data: bytes) -> None:
    image_set = open_image_set(file("image_zip/images.zip", data))
    survey(image_set, image_set.references, _PREPROCESSING)
    split = image_set.split(2, 2, 0)
    list(image_set.read(split.held_out, _PREPROCESSING))
    image_set.digest(split.calibration, _PREPROCESSING)
    assert [path.name for path in folder("image_zip").iterdir()] == ["images.zip"], "something was unpacked"
