"""`sweep doctor`: what is installed, visible, writable and reachable, each with its mend.

    finding.py   what a check says
    packages.py  Python, packages, the trials' own Python, py-spy
    devices.py   drivers, device files, devices
    places.py    folders: locks, sweeps, shared memory
    limits.py    what this process may use: descriptors, processes, memory, cgroups; the clock
    stores.py    MLflow's store, Optuna's storage
    space.py     what one space.yaml needs
    command.py   all of them, as a table or as JSON

A check is a generator of Findings that never raises for what it looks at. It starts no sweep and takes no lease;
what it writes are scratch files that have no name, or are gone when it returns.
"""
