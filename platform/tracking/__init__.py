"""Experiment tracking: experiments, their runs, and the metrics that runs log."""
