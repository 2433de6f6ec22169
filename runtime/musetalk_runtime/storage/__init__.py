"""Files and folders on disk: manifests, writing that survives a power cut, locks, outputs that a user names."""
