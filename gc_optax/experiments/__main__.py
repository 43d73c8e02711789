"""`python -m gc_optax.experiments`."""

import sys

from gc_optax.experiments import main

if __name__ == "__main__":
    sys.exit(main())
