"""When the status ticket is printed, and what is believed at that moment."""
