"""A Docker engine of its own and images for it, where none can be pulled: what tests of docker-compose.yml run on."""
