"""``python -m mobilenext.tipc train|eval|export|infer|prepare|compare``."""

import sys

from mobilenext.tipc.adapter import main

sys.exit(main())
