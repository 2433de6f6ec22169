"""The security of the service: tokens, signed URLs, and checks of every request."""
