"""Takes the systems of envspecs/ through their life: ``scripts/systems.py`` is the command.

* ``known``: what is to be known of each system besides its spec
* ``life``: the steps, in their order
* ``workshop``: channel, bundles and deployments, with the programs of this repository
* ``server``: a web server for bundles
* ``service``: a service that runs, and the request that it answers
* ``metrics``: what ``envpack metrics`` has to say of it
* ``page``, ``browser``: its page in a Chromium, if it has one
"""
