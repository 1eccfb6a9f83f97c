"""The MQTT contract as code: topics, payload types, decoding with limits. Imports nothing of ours."""
