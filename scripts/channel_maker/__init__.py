"""Makes real conda packages out of an installed CPython and of wheels, and puts them into a local channel.

``make_channel.py`` is the command; each module here has one subject:

* ``interpreter``: what a given Python says about itself
* ``python_package``: the ``python`` package, from an installed CPython
* ``python_files``: the prefix taken out of its files
* ``linked``: the shared libraries a binary needs, found as the loader finds them
* ``licences``: the licence texts of those that a distribution installed
* ``download``: requirements to wheels, with pip
* ``specs``: Python requirements to conda version ranges
* ``wheels`` and ``wheel_files``: a wheel to a conda package
* ``aliases``: a second name of a package
* ``programs``: programs of a folder, or inside a wheel, as a package
* ``compiler``: the C compiler of this machine
* ``samples``: a package whose files are hard to relocate, for tests
* ``package``: the ``.conda`` file itself
* ``channel``: the folder of packages: locking, publishing, indexing
"""
