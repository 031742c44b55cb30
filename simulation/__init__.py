"""The simulation: the real use cases on a model of DynamoDB, in virtual time."""
