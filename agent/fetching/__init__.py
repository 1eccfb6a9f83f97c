"""Files that booths fetch from any web server, in a process of its own: `__main__` is where it starts.

Nothing that a server says is believed: what counts is that all bytes are there, and that their hash is the one that was signed.
What has come stays as `SHA256.part`, however the process ends, and the next one goes on behind it. Servers are trusted as the
machine trusts them: an authority of the operator's own is put into /usr/local/share/ca-certificates, and taken in by
`update-ca-certificates`. Proxies of the environment are not used.
"""
