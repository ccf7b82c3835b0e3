"""The facts of a host, tables of rules, and verdicts with remedies on whether an environment can run there.

`gather` reads the host. `evaluate` compares its facts with a bundle's manifest, without any I/O. The tables
in ``data/`` hold every rule with its source. All of it travels in each bundle.
"""
