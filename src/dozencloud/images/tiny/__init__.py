"""The small ARM image that a new cloud has."""
