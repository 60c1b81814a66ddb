"""What outlasts a worker: an interface, and its implementation on MongoDB."""
