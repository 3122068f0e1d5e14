"""The orchestrator: the one seam to Ray, HAProxy and the embedded servers."""
