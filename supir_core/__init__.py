"""SUPIR as a library: one photo in, one restored photo out. Start reading at `restorer.py`."""
