"""How the embedded model, judge and data sets were made: scripts that reproduce them (`python -m embedded.make`)."""
