"""Signatures of bundles: minisign's keys and signatures, and the host's signature policy.

The signed data is the manifest; its digests cover everything else in the bundle.
"""
