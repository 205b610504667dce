"""The spool: events published while the broker is away, kept in a durable store and sent when it is back."""
