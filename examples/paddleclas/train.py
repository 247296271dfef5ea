"""Train the networks of this project with PaddleClas: its `tools/train.py`, to which our models are known by name.

    PYTHONPATH=PADDLECLAS python examples/paddleclas/train.py -c examples/paddleclas/mobilenext_x1_0.yaml

PADDLECLAS is a clone of PaddleClas: its package has no training. `Arch` in a configuration takes `class_num` and the
options of `mobilenext.create_model`.
"""

from types import ModuleType
from typing import Any

import mobilenext


def add_models(arch: ModuleType) -> None:
    """Make every classifier of `mobilenext list` a network that PaddleClas finds by its name in `Arch`."""

    def entry(name: str) -> Any:
        def create(class_num: int = 1000, **options: Any) -> Any:
            network = mobilenext.create_model(name, num_classes=class_num, **options)
            network.train()  # with weights it comes in evaluation mode
            return network

        return create

    for name in mobilenext.list_models("classification"):
        setattr(arch, name, entry(name))


def main() -> None:
    import ppcls.arch
    from ppcls.engine.engine import Engine
    from ppcls.utils import config

    add_models(ppcls.arch)
    options = config.parse_args()
    settings = config.get_config(options.config, overrides=options.override, show=False)
    settings.profiler_options = options.profiler_options
    Engine(settings, mode="train").train()


if __name__ == "__main__":
    main()
