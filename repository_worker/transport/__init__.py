"""The worker's side of the broker: takes messages, hands them to the pipeline, publishes replies, acknowledges."""
