"""The reader of bundles: reads and verifies the head, the frames, and the tar entries in them."""
