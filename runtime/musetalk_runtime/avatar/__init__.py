"""An avatar pack and its parts, as the stream reads them."""
