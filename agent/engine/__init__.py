"""The async shell: probes, rules, store and broker together. Devices and system reach it only through what `app` passes in."""
