"""Features in other people's formats: one file a format, found by entry point."""
