"""Who says that an artifact is what it says it is.

Statements, signatures by key pairs, and policies.

statement    what is signed of a version: its files, and every fact of its adaptkit.json, in canonical form
signatures   one signature with its statement and public key; where a workspace keeps them
keys         the cryptography, done by the model-signing library (extra `sign`), imported when it is used
policy       which keys may sign which names in which places, and the error when none of them did
"""
