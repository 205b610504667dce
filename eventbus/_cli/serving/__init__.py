"""What ``eventbus run`` is made of: workers (one bus each), their supervisor, and what they tell of their health."""
