"""One module per client, run as ``python -m`` in that client's own environment: eventbus is absent from most."""
