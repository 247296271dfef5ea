"""Train a MobileNeXt on handwritten digits with nothing but Paddle: a data set, a loop, a file.

    python examples/paddle_training.py --epochs 1 --limit 256
    mobilenext evaluate runs/plain/digits --model mobilenext_x0_35 --weights runs/plain/model.pdparams \\
        --image-size 64 --crop-pct 1 --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5

`mobilenext train` does this faster, resumes, and measures more; this is for programs that have a loop already.
"""

import argparse
from pathlib import Path

import numpy as np
import paddle
from PIL import Image

import mobilenext
from mobilenext.data.digits import write_digits

SIZE = 64  # pixels


class Images(paddle.io.Dataset):
    """The images of a list file with lines ``name label``, as float32 [3, SIZE, SIZE] from -1 to 1."""

    def __init__(self, folder: Path, part: str, limit: int | None) -> None:
        lines = (folder / f"{part}_list.txt").read_text().splitlines()[:limit]
        self.rows = [(folder / "imgs" / name, int(label)) for name, label in map(str.split, lines)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        path, label = self.rows[index]
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)
        return (pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.5, label


def train(network: paddle.nn.Layer, batches: paddle.io.DataLoader, epochs: int, learning_rate: float) -> None:
    """Train `network` in place; print the mean loss of each epoch."""
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(learning_rate, T_max=epochs * len(batches))
    optimizer = paddle.optimizer.Momentum(schedule, momentum=0.9, parameters=network.parameters(), weight_decay=4e-5)
    network.train()
    for epoch in range(epochs):
        losses = []
        for images, labels in batches:
            loss = paddle.nn.functional.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            schedule.step()
            losses.append(float(loss))
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}", flush=True)


@paddle.no_grad()
def count_correct(network: paddle.nn.Layer, batches: paddle.io.DataLoader) -> int:
    network.eval()
    return sum(int((network(images).argmax(axis=1) == labels).sum()) for images, labels in batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenext_x0_35", help="name of a model (default: mobilenext_x0_35)")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the training images (default: 20)")
    parser.add_argument("--batch-size", type=int, default=64, help="images of a step (default: 64)")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate at the start (default: 0.05)")
    parser.add_argument("--limit", type=int, help="train and validate on the first images only")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/plain"), help="folder (default: runs/plain)")
    options = parser.parse_args()

    paddle.seed(0)
    digits = options.output / "digits"
    loaders = {}
    for part in ("train", "val"):
        images = Images(write_digits(digits, part), part, options.limit)
        training = part == "train"
        loaders[part] = paddle.io.DataLoader(
            images, batch_size=options.batch_size, shuffle=training, drop_last=training
        )

    network = mobilenext.create_model(options.model, num_classes=10)
    train(network, loaders["train"], options.epochs, options.lr)
    correct, total = count_correct(network, loaders["val"]), len(loaders["val"].dataset)
    print(f"top-1 {100 * correct / total:.2f} % ({correct}/{total})")
    paddle.save(network.state_dict(), str(options.output / "model.pdparams"))
    print(f"written: {options.output / 'model.pdparams'}")


if __name__ == "__main__":
    main()
