"""Who may use the service: tokens, signed URLs, checks of every request."""
