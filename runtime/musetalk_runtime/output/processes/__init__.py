"""The encoder processes of a service, and the shared memory they read frames from."""
