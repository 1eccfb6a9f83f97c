"""A booth of emulated devices that speak the real protocols. For demonstration and tests; no booth installs it."""
