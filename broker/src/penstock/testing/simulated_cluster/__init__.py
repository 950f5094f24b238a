"""A whole cluster below the clients' sockets, from one seed: brokers, disks, network, time, faults and clients.

Everything is real but time, threads, disks and sockets. `world.run_life` lives one life and returns what was wrong with
it. Every fault that is made is one that the design promises to survive; `faults` has the list.
"""
