"""The organiser's command line, over the API alone.

`client` and `signing` are used by the proof and the local stack as well.
"""

from typing import Final

VERSION: Final = "2.0.0"
