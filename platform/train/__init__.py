"""Training jobs: the queue, the Ray job that works one off, and the built-in trainers."""
