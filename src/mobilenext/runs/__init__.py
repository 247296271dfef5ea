"""The files of a run: what they hold, and one checked reader of each."""
