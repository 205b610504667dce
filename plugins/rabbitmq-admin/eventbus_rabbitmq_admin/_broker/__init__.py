"""A production-like broker in a folder: certificates, users, definitions, configuration, and nodes that run on it."""
