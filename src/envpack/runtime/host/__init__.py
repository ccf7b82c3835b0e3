"""What a host is and whether an environment can run on it: facts, tables of rules, verdicts with their remedies.

`gather` reads the host, `evaluate` compares it with a bundle's manifest and touches nothing; the tables in
``data/`` carry every rule with its source. All of it travels in each bundle.
"""
