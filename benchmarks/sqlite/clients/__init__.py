"""One script for each client, run in processes of their own."""
