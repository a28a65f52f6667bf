"""The local web app: denoise recordings in the browser, on this machine. In reading order:

- `uploads`: the private folder of a server, uploads and their limits.
- `pool`: worker processes that can be stopped at any moment.
- `jobs`: what the processes do: check, preview and denoise an upload.
- `service`: starts that work and keeps the state of each upload.
- `guard`: host names and origins of requests, headers of responses.
- `receiving`: writes the body of a request to disk as it arrives.
- `archive`: ZIP archives that are made while they are sent.
- `app`: the HTTP API and the page.
- `http`: the HTTP server.
"""
