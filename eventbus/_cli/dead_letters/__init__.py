"""``eventbus dead-letters``: what groups have given up, listed, shown, replayed and discarded."""
