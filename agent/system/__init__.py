"""What the agent needs of the machine under it: clock, store, broker, service manager, kernel events."""
