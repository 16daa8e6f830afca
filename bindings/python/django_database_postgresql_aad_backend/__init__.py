"""The engine :mod:`pgaad.django` by the name of the original, whose settings it runs unmodified."""
