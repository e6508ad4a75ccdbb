"""The devices of this machine and their leases: `open_pool` in `pool.py` is the way in."""
