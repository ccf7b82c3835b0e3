"""The bundle format of ``bundle/FORMAT.md``: its values, their JSON, its tar entries and limits."""
