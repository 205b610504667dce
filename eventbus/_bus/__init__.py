"""The two buses: thin shells of threads and of tasks around the decisions of the core."""
