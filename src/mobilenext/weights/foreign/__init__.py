"""Read checkpoint files of PyTorch, Paddle and safetensors without executing them, and without those frameworks.

file = read_foreign("MobileNeXt_x1_0.pth.tar")    # any of four formats -> a tree of plain data and NumPy arrays
state = select_state_dict(file)                   # the weights in it, raw or averaged, with clean names
"""

from mobilenext.weights.foreign.reading import ForeignFile, read_foreign
from mobilenext.weights.foreign.state_dict import StateDict, select_state_dict

__all__ = ["ForeignFile", "StateDict", "read_foreign", "select_state_dict"]
