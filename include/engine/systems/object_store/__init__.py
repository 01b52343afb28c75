"""The object store that holds the backups; and a real S3 server for sandboxes."""
