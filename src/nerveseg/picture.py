"""What `nerveseg.image` was called; the old name goes with the next release."""

from __future__ import annotations

import sys
import warnings

from nerveseg import image

warnings.warn("nerveseg.picture is called nerveseg.image now. Import that.", DeprecationWarning, stacklevel=2)
sys.modules[__name__] = image
