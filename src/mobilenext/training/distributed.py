from mobilenext.distributed import *  # noqa: F403
from mobilenext.distributed import PeerLost, Ranks, launched  # noqa: F401
