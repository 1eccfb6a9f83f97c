"""Import paho without the HTTP client that it only wants for proxies: 1.3 MiB of each booth's memory.

paho.mqtt.client imports urllib.request (http.client, email, …) to look up HTTP proxies for sockets
that it opens itself; `system.mqtt_link` hands it sockets that are open already. While paho is imported an
empty module stands in its place; afterwards `import urllib.request` gives the real one again
(`docs/decisions/0006`).
"""

import sys
import types

_NAME = "urllib.request"

if _NAME in sys.modules:
    import paho.mqtt.client
else:
    sys.modules[_NAME] = types.ModuleType(_NAME)
    try:
        import paho.mqtt.client  # noqa: F401
    finally:
        del sys.modules[_NAME]
