"""Dead letters: looking at them, sending them again to the group that failed, and discarding them.

What they are and what is done with them is decided in :mod:`._values`, :mod:`._reading` and :mod:`._replaying`;
:mod:`._walking` goes through a queue by the contract of :mod:`eventbus.transport`, written once for both kinds of link.
"""
