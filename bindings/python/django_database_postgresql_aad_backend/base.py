"""What Django looks for in an engine."""

from pgaad.django.base import DatabaseWrapper

__all__ = ["DatabaseWrapper"]
