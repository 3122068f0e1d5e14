"""The reconcile loops: leased steps that bring what is to what should be."""
