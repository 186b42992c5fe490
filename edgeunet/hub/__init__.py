"""Bundles on the Hugging Face Hub: fetched into the user's cache, and uploaded; extra `[hub]`."""

from .fetch import from_hub
from .push import push_to_hub

__all__ = ["from_hub", "push_to_hub"]
