"""Moving messages that wait in queues to another broker.

Which queues is decided in :mod:`._places`, what is sent in :mod:`._carrying`; :mod:`._mover` does it by the contract of
:mod:`eventbus.transport`, written once for both kinds of link.
"""
