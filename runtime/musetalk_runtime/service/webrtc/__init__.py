"""WebRTC: a session's encoded frames and sound to viewers' connections, as they are made."""
