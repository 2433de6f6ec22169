"""Many devices behind one front end, on a Ray cluster."""
