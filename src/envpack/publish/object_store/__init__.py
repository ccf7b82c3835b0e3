"""Object stores as places to publish to and to deploy from: S3 and what speaks its protocol, GCS, Azure."""
