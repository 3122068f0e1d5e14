"""The control-plane HTTP application, composed of every slice's router."""
