"""What the computer and its processes are: environment, worker pool, ranks, signals, streams, temporary files."""
