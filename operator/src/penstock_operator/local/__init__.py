"""`penstock up`: the same resources without Kubernetes, as processes of this machine.

Nothing here imports kopf or the Kubernetes client.
"""
