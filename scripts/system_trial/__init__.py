"""Takes the systems of envspecs/ through their life: ``scripts/systems.py`` is the command.

* ``known``: what is to be known of each system besides its spec
* ``workshop``: channel, bundles and deployments, with the programs of this repository
* ``server``: a web server for bundles
* ``service``: a service that runs, and the request that it answers
"""
