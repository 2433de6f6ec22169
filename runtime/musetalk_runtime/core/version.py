"""The version of musetalk-edge."""

__version__ = "0.1.0"
