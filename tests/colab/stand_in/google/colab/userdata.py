"""Secrets: there are none."""


class SecretNotFoundError(Exception):
    """As Colab raises it."""


def get(key: str) -> str:
    """Say that there is no such secret."""
    raise SecretNotFoundError(f"Secret {key} does not exist.")
