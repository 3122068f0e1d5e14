"""Ray Serve application builders, one file per static app."""
