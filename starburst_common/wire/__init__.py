"""Values to signed, versioned bytes and back. Nothing is unpickled that our key did not sign.

Described in docs/wire.md: a *sealed* object is version, HMAC and body; a *document* is a JSON header with blobs after
it; a *frame* is a document that holds pickled values with their large buffers out of band.

What is ours may still be wrong: written by a peer with a fault, or of another release. Whatever is read here is either
as it should be or `Refused`, so that nobody else need look.
"""
