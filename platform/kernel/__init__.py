"""What every slice stands on: settings, storage, errors, events, identity primitives."""
