"""The live service: sessions that many viewers watch, over HTTP. Needs the extra ``serve``."""
