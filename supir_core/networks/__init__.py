"""The networks, with the state-dict keys of the published checkpoints."""
