"""Draw the pictures of docs/: what results/ holds, the bundled networks' answers, and the pages in a browser.

python scripts/update_pictures.py                # all; the pages need chromium and chromedriver
python scripts/update_pictures.py claim          # docs/claim.png only

docs/tiny20.png is not among them: the log of that run is in no repository. The diagrams (.svg) are written by
`mobilenext diagram`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import gradient_confusion
import mobilenext
import page_pictures
from document_tables.results import ROOT, load
from mobilenext.data.digits import write_digits
from mobilenext.drawing.picture import write_picture
from mobilenext.explanation.pictures import explain
from mobilenext.sources.find import sample_for
from result_pictures import claim_spec, latency_spec


def claim(path: Path) -> None:
    write_picture(claim_spec(load("claim.json")), path, extra="report", purpose="the picture")


def confusion(path: Path) -> None:
    gradient_confusion.write_plot(load("gradient_confusion.json"), path)


def latency(path: Path) -> None:
    write_picture(latency_spec(load("bench_batch1.json")), path, extra="report", purpose="the picture")


def detections(path: Path) -> None:
    # The picture has the name of the sample, which that of `path` is.
    model = "ssdlite320_mobilenext_x0_35.bccd"
    mobilenext.predict(sample_for(model=model), model=model, score_threshold=0.25, output=path.parent)


def explanation(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (digit,) = write_digits(Path(folder) / "digits").rglob("digit_1202.png")
        explain(digit, path, model="mobilenext_x0_35.digits")
        page_pictures.store(path.read_bytes(), path)


PICTURES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "claim": ("claim.png", claim),
    "gradient_confusion": ("gradient_confusion.png", confusion),
    "latency": ("latency.png", latency),
    "detections": ("blood_cells.jpg", detections),
    "explain": ("explain.png", explanation),
    "report": ("report.png", page_pictures.report),
    "serve": ("serve.png", page_pictures.serve),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(PICTURES)}; all where none is named")
    options = parser.parse_args()
    if unknown := set(options.names) - set(PICTURES):
        parser.error(f"no picture is called {', '.join(sorted(unknown))}; expected {', '.join(PICTURES)}")
    for name in options.names or PICTURES:
        file, draw = PICTURES[name]
        draw(ROOT / "docs" / file)
        print(f"docs/{file}")


if __name__ == "__main__":
    main()
