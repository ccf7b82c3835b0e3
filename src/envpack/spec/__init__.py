"""The spec: an unchanged ``environment.yml``, plus one optional section ``envpack:``."""
