"""Images on disk to the network's input. Knows nothing about models."""

from mobilenext.data.dataset import open_dataset
from mobilenext.data.images import find_images, read_image
from mobilenext.data.listing import IMAGE_SUFFIXES
from mobilenext.data.preprocessing import Preprocessing, pixels_of
from mobilenext.data.records import Dataset, LabelledDataset, LabelledImage, Record
from mobilenext.data.summary import DatasetSummary, describe

__all__ = [
    "IMAGE_SUFFIXES",
    "Dataset",
    "DatasetSummary",
    "LabelledDataset",
    "LabelledImage",
    "Preprocessing",
    "Record",
    "describe",
    "find_images",
    "open_dataset",
    "pixels_of",
    "read_image",
]
