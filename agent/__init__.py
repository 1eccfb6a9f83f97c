"""The booth agent: health, configuration and self-repair of a public-service booth, over MQTT 5.

Start reading at `app.py`: one page that wires everything.
"""

from typing import Final

VERSION: Final = "0.1.0"

# The clock floor of a booth that has never saved one: no clock may show an earlier time than the
# release that it runs. Moved forward with each release.
RELEASED_AT: Final = 1_795_219_200.0  # 2026-11-21T00:00:00Z, in seconds since 1970
