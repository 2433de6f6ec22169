"""The HTTP server: the ASGI application, the socket, systemd, the watchdog."""
