"""The stages that train parts, one module each."""
