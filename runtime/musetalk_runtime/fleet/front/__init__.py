"""The front end: who has room, and requests that are passed on to devices."""
