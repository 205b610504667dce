"""``python -m eventbus``: the same as the command ``eventbus``."""

from eventbus._cli import main

if __name__ == "__main__":
    main()
