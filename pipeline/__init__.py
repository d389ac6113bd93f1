"""Folders and archives of photos through supir_core, on Ray Data. Start reading at `flow.py`."""
