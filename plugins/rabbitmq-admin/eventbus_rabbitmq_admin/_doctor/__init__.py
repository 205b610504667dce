"""What can be wrong between a service and its broker, from the outside in; each finding with the next step."""
