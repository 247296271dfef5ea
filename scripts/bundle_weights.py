"""Put the weights of a run into the package, under the name of a card.

python scripts/bundle_weights.py RUN/last_ema.safetensors mobilenext_x0_35.tiny20 [--labels FILE]
python scripts/bundle_weights.py RUN/best.safetensors ssdlite320_mobilenext_x0_35.bccd --storage float16
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from mobilenext.weights.pretrained import BUNDLED
from mobilenext.weights.read import read_weights
from mobilenext.weights.write import STORAGES, write_weights


def bundle(path: Path, card: str, labels: tuple[str, ...] | None = None, storage: str = "float32") -> Path:
    """Write `path` as the bundled file of the card `model.tag`, its values stored as float32 or float16."""
    weights = read_weights(path, model=card.partition(".")[0], labels=labels)
    target = BUNDLED / f"{card}.safetensors"
    write_weights(replace(weights, card=card), target, storage=storage)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("card", help="model.tag")
    parser.add_argument("--labels", type=Path, help="the name of one class on each line")
    parser.add_argument("--storage", choices=STORAGES, default="float32", help="type of the stored values")
    options = parser.parse_args()
    labels = tuple(options.labels.read_text().splitlines()) if options.labels else None
    print(bundle(options.weights, options.card, labels, options.storage))


if __name__ == "__main__":
    main()
