"""``python -m mobilenext.tipc`` as a file, for Paddle's launcher, which takes no ``-m``."""

import sys

from mobilenext.tipc.adapter import main

sys.exit(main())
