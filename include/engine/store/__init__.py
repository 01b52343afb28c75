"""What is in the bucket: objects, manifests, the catalog, retention, encryption.  The bucket is the truth."""
