"""The message broker as both sides know it: names, limits, topology, permissions, connections.

Everything that client and worker must agree on about RabbitMQ is said here once, together with the files that RabbitMQ
itself reads and a private local node for development and tests.

It is not a place for message handlers or for cryptography, and it imports no other room.
"""
