"""Audio tokenizers behind one interface, and their chunked encoding and decoding."""
