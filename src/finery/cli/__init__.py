"""The command line. Root commands live here; those of a slice in its `commands.py`."""
