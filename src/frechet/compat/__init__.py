"""The interfaces of other tools, computed by this package."""
