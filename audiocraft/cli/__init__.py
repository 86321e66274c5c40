"""Commands of `audiocraft COMMAND …`, one module each."""
