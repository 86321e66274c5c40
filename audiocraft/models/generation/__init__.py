"""Token generation: decoding loop, classifier-free guidance, long-form windows."""
