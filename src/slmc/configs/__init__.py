"""Ready-made configurations, listed by ``slmc examples``."""
