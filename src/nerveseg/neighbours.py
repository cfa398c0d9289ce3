"""What `nerveseg.integrations` was called; the old name goes with the next release."""

from __future__ import annotations

import sys
import warnings

from nerveseg import integrations

warnings.warn("nerveseg.neighbours is called nerveseg.integrations now. Import that.", DeprecationWarning, stacklevel=2)
sys.modules[__name__] = integrations
