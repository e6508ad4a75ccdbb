"""`sweep metrics`: the sweeps of a folder for Prometheus, by a process of its own that only reads files.

    watched.py    one sweep, followed in its journal
    collector.py  what Prometheus gets: the only importer of prometheus_client, with
    command.py    the server

It never talks to a controller, so it neither slows one down nor cares whether one lives. Counters are counted from
the journal, so they go on where they were when a controller dies, when a sweep is resumed, and when this process
is started anew.
"""
