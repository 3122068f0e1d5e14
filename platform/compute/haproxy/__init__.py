"""The wrapper that stands between Ray Serve and the HAProxy binary."""
