"""``python -m aenet_ray.cli``, where the console script is not on the path."""

import sys

from aenet_ray.cli.main import main

sys.exit(main())
