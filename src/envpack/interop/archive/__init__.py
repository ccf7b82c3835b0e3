"""Members of tar and zip archives, by envpack's own rules, each checked before it is used."""
