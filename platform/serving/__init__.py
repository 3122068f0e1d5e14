"""The data plane: what is served, who may invoke it, and the process that answers; imports nothing but the kernel."""
