"""Model set to bundle: the engines of one device, certified against the golden tensors."""
