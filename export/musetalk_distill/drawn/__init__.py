"""Drawn training data: stylised faces that speak synthetic speech, with the truth of every mouth."""
