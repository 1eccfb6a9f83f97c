"""The technician's and the fleet's tool: over MQTT only."""
