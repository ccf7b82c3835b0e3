"""Who made a bundle: minisign's keys and signatures, and what a host demands.

What is signed is the manifest, whose digests hold everything else.
"""
