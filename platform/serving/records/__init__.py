"""What a request leaves behind: rows of the inference log, feedback and metrics."""
