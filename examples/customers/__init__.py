"""Four services around customers: they register, get mail, are counted, and ask for prices.

``python -m examples.customers.demo`` runs all of them; each is a program of its own as well.
"""
