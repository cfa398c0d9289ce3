"""What `nerveseg.synthetic` was called; the old name goes with the next release."""

from __future__ import annotations

import sys
import warnings

from nerveseg import synthetic

warnings.warn("nerveseg.world is called nerveseg.synthetic now. Import that.", DeprecationWarning, stacklevel=2)
sys.modules[__name__] = synthetic
