"""One protocol each: I/O and no opinion."""
