"""A text file of labels: the user's, and the one beside an artifact."""

from fuzz.target import file
from tfvit.labels import class_indices, read_labels


def read(data: bytes) -> None:
    labels = read_labels(file("labels/labels.txt", data))
    class_indices(labels, None, len(labels))
    class_indices(labels, labels, len(labels))
