"""``python -m mobilenext``."""

import sys

from mobilenext.cli import main

sys.exit(main())
