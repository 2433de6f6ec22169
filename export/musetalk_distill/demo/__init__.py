"""The demo's own models, trained from nothing on drawn clips: what hears, what sees, and then what speaks."""
