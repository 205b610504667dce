"""Commands. They import what is slow inside their functions."""
