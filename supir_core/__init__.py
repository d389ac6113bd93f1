"""SUPIR as a library: one photo in, one restored photo out. Start reading at `restorer.py`."""

__version__ = "0.1.0"
