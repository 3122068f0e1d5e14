"""What the control plane publishes: its documents, the way they travel, and what a model server knows of them."""
